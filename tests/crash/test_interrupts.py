"""Ctrl-C and SIGTERM to ``stratus publish``: one line, and nothing half."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.stores.directory import DirectoryStore
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.crash.processes import BEFORE, Machine, assert_heals, assert_whole
from tests.crash.weather import Passing, Proxy, Weather, proxy_before
from tests.repositories import FQRN, new_repository, put

INTERRUPTED = (130, "stratus: interrupted\n")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    new_repository(store)
    put(store, BEFORE)
    return store


def _archive(files: Mapping[str, bytes | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            archive.addfile(member, io.BytesIO(data or b""))
    return out.getvalue()


def _temporary_files(store: DirectoryStore) -> list[str]:
    return [file.name for file in (store.path / ".stratus-tmp").rglob("*") if len(file.name) == 32]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_publish_from_a_pipe_is_interrupted_while_it_waits(
    store: DirectoryStore, tmp_path: Path, number: signal.Signals
) -> None:
    machine = Machine.of(tmp_path, store)
    large = {f"large{number}": os.urandom(1 << 20) for number in range(16)}
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe, machine.start("publish", FQRN, "-", stdin=reading) as process:
        os.close(reading)
        pipe.write(_archive(large)[: -(1 << 19)])
        pipe.flush()
        time.sleep(0.5)  # what does not fit into the pipe was read, so it waits for the rest by now, or soon
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert out == b""
    if number == signal.SIGINT:
        assert (process.returncode, err.decode()) == INTERRUPTED
    else:
        assert (process.returncode, err) == (-signal.SIGTERM, b"")
    assert not assert_whole(store, machine.after)
    assert _temporary_files(store) == []
    assert_heals(store)


def _wait_for(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def proxy(s3_server: LocalS3) -> Iterator[Proxy]:
    with proxy_before(s3_server.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize("stalled", [r"GET .*/\.cvmfspublished", r"GET .*C$", r"PUT .*/data/", r"PUT .*/\.cvmfspub"])
def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer(
    s3_server: LocalS3, proxy: Proxy, tmp_path: Path, stalled: str
) -> None:
    prefix = token_hex(6)
    store = s3_server.store(BUCKET, prefix)
    new_repository(store)
    put(store, BEFORE)
    environment = {**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}
    machine = Machine.of(tmp_path, store, **environment)
    (tmp_path / "config.toml").write_text(
        f'[repositories."{FQRN}"]\nstore = "s3://{BUCKET}/{prefix}"\nkeys = "{tmp_path}/keys"\n'
    )

    def forecast(passing: Passing) -> Weather:
        return Weather.STALLED if re.match(stalled, f"{passing.method} {passing.path}") else Weather.FAIR

    proxy.restart(forecast)
    with machine.start("publish", FQRN, machine.source) as process:
        assert proxy.stalled.wait(30)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=20)
    assert time.monotonic() - begun < 5
    assert (process.returncode, err.decode(), out) == (*INTERRUPTED, b"")
    assert_whole(store, machine.after)
    assert_heals(store)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
def test_an_interrupt_at_any_time(store: DirectoryStore, tmp_path: Path, seed: int) -> None:
    machine = Machine.of(tmp_path, store)
    dice = random.Random(seed)
    with machine.start("publish", FQRN, machine.source) as process:
        time.sleep(dice.uniform(0.1, 0.6))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    # Before our first line and behind our last one the interpreter itself is hit: a shell shows 130 for that, too.
    assert process.returncode in (0, 130, -signal.SIGINT)
    if process.returncode == 130:
        assert err.decode() in ("stratus: interrupted\n", "")
    landed = assert_whole(store, machine.after)
    assert landed or process.returncode != 0
    assert_heals(store)
