from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run, command
from tests.client.conftest import with_dead_mounts  # noqa: F401 (a fixture)


def test_a_mount_shows_the_repository_and_follows_it(
    stratus: Run, repository: str, tree: Path, mountpoint: Path
) -> None:
    stratus("publish", repository, tree)
    assert command("mount", repository, mountpoint, "--poll", "0.2").returncode == 0
    assert subprocess.check_output([mountpoint / "bin" / "tool"]) == b"tool\n"
    (tree / "new").write_text("new\n")
    stratus("publish", repository, tree)
    give_up = time.monotonic() + 20
    while not (mountpoint / "new").exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert command("umount", mountpoint).returncode == 0
    assert list(mountpoint.iterdir()) == []


@pytest.mark.usefixtures("with_dead_mounts")
def test_what_killed_processes_left_is_removed(stratus: Run, repository: str, mountpoint: Path) -> None:
    assert command("mount", repository, mountpoint).returncode == 0
    pid = int(os.getxattr(mountpoint, "user.pid"))
    os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + 20
    while (failed := command("mount", repository, mountpoint)).stderr.startswith(f"stratus: {repository} is mounted"):
        assert time.monotonic() < give_up
    assert failed.returncode == 1
    assert f"stratus umount {mountpoint}" in failed.stderr
    assert command("umount", "--stale").stdout == f"{mountpoint}\n"
    assert command("mount", repository, mountpoint).returncode == 0


def test_umount_says_what_is_still_open(stratus: Run, repository: str, tree: Path, mountpoint: Path) -> None:
    stratus("publish", repository, tree)
    assert command("mount", repository, mountpoint).returncode == 0
    with (mountpoint / "README").open() as file:
        assert command("umount", mountpoint).stdout.startswith("something is still open in it; process ")
        assert file.read() == "read me\n"
    assert "--stale" in stratus("umount", code=2).err


def test_a_mount_of_a_tag_stays(stratus: Run, repository: str, tree: Path, mountpoint: Path) -> None:
    stratus("publish", repository, tree, "--tag", "v1")
    stratus("rm", f"{repository}:/README")
    assert command("mount", f"{repository}@v1", mountpoint).returncode == 0
    assert (mountpoint / "README").read_text() == "read me\n"


def test_a_mount_that_cannot_be_says_why(stratus: Run, repository: str, tmp_path: Path) -> None:
    failed = command("mount", repository, tmp_path / "missing")
    assert failed.returncode == 1
    assert failed.stderr.startswith("stratus: ")
    assert command("mount", f"{repository}:/a", tmp_path).returncode == 2
    nowhere = tmp_path / "nowhere.example.org"
    assert command("mount", nowhere, tmp_path, "--public-key", tmp_path / "keys" / f"{repository}.pub").returncode == 1


def test_umount_of_something_else_says_so(stratus: Run, tmp_path: Path) -> None:
    assert "no repository is mounted" in stratus("umount", tmp_path, code=1).err
