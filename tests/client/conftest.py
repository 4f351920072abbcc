"""Real mounts for tests, that are gone afterwards whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stratus.client.following import MountSource
from stratus.client.fuse import mounting
from stratus.client.mount import mount, umount
from stratus.errors import MountError
from tests.client.trees import SmallRepository


@functools.cache
def why_not() -> str | None:
    """Why nothing can be mounted here; None if it can."""
    try:
        os.close(os.open(mounting.DEVICE, os.O_RDWR))
    except OSError as error:
        return f"{mounting.DEVICE} cannot be opened: {error.strerror}"
    return None


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@dataclass
class Mounted:
    """A repository and the directory where it is mounted."""

    repository: MountSource
    directory: Path
    cache: Path
    pid: int = 0
    others: list[int] = field(default_factory=list)

    def start(self, poll: float | None = None) -> None:
        mount(lambda: self.repository, self.directory, cache=self.cache, poll=poll)
        self.pid = int(os.getxattr(self.directory, "user.pid"))
        self.others.append(self.pid)

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def names(self, directory: str = "") -> list[str]:
        """What a directory lists, sorted."""
        return sorted(path.name for path in (self.directory / directory).iterdir())

    def log(self) -> str:
        return (self.cache / f"mount.{self.repository.fqrn}.log").read_text()

    def follow_to(self, revision: int) -> None:
        """Waits until the mount shows the revision and has told the kernel all about it."""
        eventually(lambda: f"INFO revision {revision}\n" in self.log())

    def end(self) -> None:
        for _ in range(3):
            if mounting.find(self.directory) is not None:
                with contextlib.suppress(MountError):
                    umount(self.directory)
        for pid in self.others:
            try:
                eventually(lambda pid=pid: not is_alive(pid), 5)  # type: ignore[misc]
            except AssertionError:
                os.kill(pid, signal.SIGKILL)
                raise


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def with_dead_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One test at a time, whatever runs in parallel: some remove all dead mounts that they find."""
    with (tmp_path_factory.getbasetemp().parent / "dead-mounts").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def repository(tmp_path: Path) -> SmallRepository:
    return SmallRepository(tmp_path / "repository")


@pytest.fixture
def mounted(repository: SmallRepository, tmp_path: Path) -> Iterator[Mounted]:
    """Not yet mounted: publish, then ``start``."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path / "mnt"
    directory.mkdir()
    made = Mounted(repository, directory, tmp_path / "cache")
    try:
        yield made
    finally:
        made.end()
