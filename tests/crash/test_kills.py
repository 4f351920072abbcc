"""``stratus publish`` killed at its store requests, on real stores."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.stores.contract import Store
from stratus.stores.directory import DirectoryStore
from stratus.stores.dying import VARIABLE
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.crash.processes import BEFORE, Machine, assert_heals, assert_whole
from tests.repositories import new_repository, put

NewStore = Callable[[], Store]


@pytest.fixture(params=["directory", "s3"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Makes stores of one kind, each with a repository that holds BEFORE."""
    if request.param == "directory":
        return lambda: _with_repository(DirectoryStore(tmp_path / token_hex(4)))
    server: LocalS3 = request.getfixturevalue("s3_server")
    return lambda: _with_repository(server.store(BUCKET, token_hex(6)))


@pytest.fixture
def environment(s3_server: LocalS3) -> dict[str, str]:
    return s3_server.environment()


def _with_repository(store: Store) -> Store:
    new_repository(store)
    put(store, BEFORE)
    return store


def _count(machine: Machine) -> int:
    receipt = json.loads(machine.publish().stdout)
    return sum(receipt["requests"].values())


def _kill_at(point: str, new_store: NewStore, home: Path, environment: dict[str, str]) -> bool:
    """Whether the new revision had landed."""
    store = new_store()
    machine = Machine.of(home, store, **environment)
    assert machine.publish({VARIABLE: point}).returncode == -signal.SIGKILL
    landed = assert_whole(store, machine.after)
    assert_heals(store, machine.after)
    return landed


def test_a_publish_that_is_killed_leaves_the_old_or_the_new_revision_and_the_next_one_heals(
    new_store: NewStore, tmp_path: Path, environment: dict[str, str]
) -> None:
    count = _count(Machine.of(tmp_path, new_store(), **environment))
    points = ["0", f"{count // 2}", f"{count - 8}", f"{count - 3}+", f"{count - 1}"]
    landed = [_kill_at(point, new_store, tmp_path, environment) for point in points]
    assert landed == [False, False, False, True, True]


@pytest.mark.soak
def test_a_publish_can_be_killed_before_and_after_every_request(
    new_store: NewStore, tmp_path: Path, environment: dict[str, str]
) -> None:
    count = _count(Machine.of(tmp_path, new_store(), **environment))
    for after in ("", "+"):
        for number in range(count):
            _kill_at(f"{number}{after}", new_store, tmp_path, environment)
