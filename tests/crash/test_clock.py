"""The host's clock is set while a process publishes: only the store's clock counts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.stores.contract import Store
from stratus.stores.directory import DirectoryStore
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.crash.processes import BEFORE, Machine, assert_whole, problems
from tests.repositories import new_repository, put, reader

DAY = 86_400  # seconds
_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static long calls;

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME && __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) >= atol(getenv("CLOCK_JUMPS_AT")))
        time->tv_sec += atol(getenv("CLOCK_JUMPS_BY"));
    return result;
}
"""


@pytest.fixture(scope="session")
def jumping_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to be preloaded, whose clock is set at a certain look at it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the jumping clock")
    directory = tmp_path_factory.mktemp("clock")
    (directory / "clock.c").write_text(_SOURCE)
    library = directory / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, directory / "clock.c", "-ldl"], check=True)
    return library


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        store: Store = DirectoryStore(tmp_path / "store")
    else:
        store = request.getfixturevalue("s3_server").store(BUCKET, token_hex(6))
    new_repository(store)
    put(store, BEFORE)
    return store


def _publish(machine: Machine, library: Path, days: int, at: int) -> None:
    jump = {"LD_PRELOAD": str(library), "CLOCK_JUMPS_BY": str(days * DAY), "CLOCK_JUMPS_AT": str(at)}
    done = machine.publish(jump)
    assert done.returncode == 0, done


@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize("at", [0, 20])
def test_a_clock_that_jumps_by_a_day_does_not_keep_anybody_from_publishing(
    store: Store, s3_server: LocalS3, tmp_path: Path, jumping_clock: Path, days: int, at: int
) -> None:
    machine = Machine.of(tmp_path, store, **s3_server.environment())
    before = reader(store).manifest
    _publish(machine, jumping_clock, days, at)
    after = reader(store).manifest
    assert assert_whole(store, machine.after)
    assert after.timestamp >= before.timestamp
    if store.url.startswith("s3:"):
        assert after.timestamp - before.timestamp < 300  # the store's time, signed into requests and into the manifest


@pytest.mark.soak
@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_may_jump_at_any_time(
    store: Store, s3_server: LocalS3, tmp_path: Path, jumping_clock: Path, days: int
) -> None:
    machine = Machine.of(tmp_path, store, **s3_server.environment())
    for at in range(0, 80, 2):
        (machine.source / "kept").write_text(f"changed {at}")
        before = reader(store).manifest.timestamp
        _publish(machine, jumping_clock, days, at)
        assert reader(store).manifest.timestamp >= before
        assert problems(store) <= {"stale_reflog"}
