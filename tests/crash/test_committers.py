"""Committers that are killed, stopped, or at work at the same time: real processes on a real store.

Whatever becomes of them, every change set that was submitted is published once and has one receipt.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.crash.committing import (
    AFTER,
    LAYOUT,
    NAMES,
    Committers,
    assert_published,
    assert_tidy,
    commit_here,
    receipts,
    submit_all,
)
from tests.repositories import content, keys, new_repository, reader


class Place:
    """Makes repositories in which three change sets wait."""

    def __init__(self, server: LocalS3, home: Path) -> None:
        self._server = server
        self._keys = home / "keys"
        keys().save(self._keys)

    def new(self) -> tuple[S3Store, list[str], Committers]:
        store = self._server.store(BUCKET, token_hex(6))
        new_repository(store)
        return store, submit_all(store), Committers(store, self._keys, self._server.environment())


@pytest.fixture
def place(s3_server: LocalS3, tmp_path: Path) -> Place:
    return Place(s3_server, tmp_path)


def requests(place: Place) -> int:
    """How many a committer makes that nothing happens to."""
    store, change_sets, committers = place.new()
    with committers.start() as process:
        out, _ = process.communicate(timeout=60)
    assert_published(store, change_sets)
    return int(out)


def kill_at(place: Place, point: str) -> bool:
    """Kills a committer, lets another one finish; whether the first had published."""
    store, change_sets, committers = place.new()
    assert committers.run(die_at=point) == -signal.SIGKILL
    landed = reader(store).manifest.revision > 1
    assert content(store) == (AFTER if landed else {})
    commit_here(store)
    assert_published(store, change_sets)
    return landed


def test_a_committer_that_is_killed_leaves_everything_to_the_next_one(place: Place) -> None:
    count = requests(place)
    points = ["1+", f"{count // 2}", f"{count - 12}+", f"{count - 9}", f"{count - 5}", f"{count - 2}+"]
    landed = [kill_at(place, point) for point in points]
    assert landed == sorted(landed)
    assert landed[0] is False
    assert landed[-1] is True


@pytest.mark.soak
@pytest.mark.parametrize("after", ["", "+"])
def test_a_committer_can_be_killed_before_and_after_every_request(place: Place, after: str) -> None:
    for number in range(requests(place)):
        kill_at(place, f"{number}{after}")


@pytest.mark.parametrize("die_at", ["", "8+"])
def test_two_committers_that_both_take_the_lock_publish_everything_once(place: Place, die_at: str) -> None:
    store, change_sets, committers = place.new()
    if die_at:
        assert committers.run(die_at=die_at) == -signal.SIGKILL
    with committers.start("steal") as one, committers.start("steal") as other:
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in (one, other):
            process.communicate(timeout=120)
    assert (one.returncode, other.returncode) == (0, 0)
    commit_here(store)
    assert_published(store, change_sets)


def test_a_committer_that_sleeps_before_the_swap_changes_nothing_when_it_wakes_up(place: Place) -> None:
    store, change_sets, committers = place.new()
    with committers.start("pause") as sleeper:
        wait_until_stopped(sleeper)
        assert content(store) == {}
        commit_here(store)
        assert_published(store, change_sets)
        before = reader(store).manifest
        os.kill(sleeper.pid, signal.SIGCONT)
        sleeper.communicate(timeout=60)
    assert sleeper.returncode == 0
    assert reader(store).manifest.root == before.root
    assert_published(store, change_sets)


def wait_until_stopped(process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            return
        time.sleep(0.05)
    raise AssertionError("it did not stop")


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_a_change_set_that_kills_committers_is_rejected_and_its_neighbours_are_published(
    place: Place, which: int
) -> None:
    store, change_sets, committers = place.new()
    deadly = change_sets[which]
    rounds = 1
    while committers.run(deadly) == -signal.SIGKILL:
        rounds += 1
        assert rounds < 10
    found = receipts(store)
    assert {key: receipt.state for key, receipt in found.items()} == {
        **dict.fromkeys(change_sets, "published"),
        deadly: "rejected",
    }
    error = found[deadly].error
    assert error is not None
    assert error.code == "too_heavy"
    name = NAMES[which]
    assert content(store) == {path: data for path, data in AFTER.items() if path.partition("/")[0] != name}
    assert_tidy(store)
    assert not store.missing([LAYOUT.receipt(key) for key in change_sets])
