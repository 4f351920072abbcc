"""An ordinary user mounts: inside a user name space by ``mount(2)``, outside of one by ``fusermount3``."""

from __future__ import annotations

import shutil

import pytest

from tests.client.conftest import Mounted
from tests.client.unprivileged import run_unprivileged

ROADS = [
    pytest.param(True, id="user-name-space"),
    pytest.param(
        False,
        id="fusermount3",
        marks=pytest.mark.skipif(shutil.which("fusermount3") is None, reason="fusermount3 is not installed"),
    ),
]

_BEGIN = """
    import encodings.idna, errno, os, signal, sys
    from pathlib import Path
    from stratus.client import mount as module
    from stratus.client.fuse import mounting
    from stratus.client.mount import mount, umount, umount_stale
    from stratus.errors import MountError
    from tests.client.conftest import eventually, is_alive
    from tests.client.trees import SmallRepository
    from tests.client.unprivileged import become_ordinary
    top = become_ordinary()
    repository = SmallRepository(top / "repository")
    repository.publish([repository.file(b"/f", b"one")])
    mnt = top / "mnt"
    mnt.mkdir()

    def start():
        assert mount(lambda: repository, mnt, cache=top / "cache", poll=0.1) == mnt
        return int(os.getxattr(mnt, "user.pid"))

"""


@pytest.mark.parametrize("user_namespace", ROADS)
def test_mount_read_follow_unmount(mounted: Mounted, user_namespace: bool) -> None:
    script = """
    pid = start()
    assert mounting.find(mnt).user == os.getuid()
    print((mnt / "f").read_text(), os.listdir(mnt))
    repository.publish([repository.file(b"/g", b"two")])
    eventually(lambda: (mnt / "g").exists())
    print((mnt / "g").read_text(), os.listdir(mnt))
    print(umount(mnt), is_alive(pid), os.listdir(mnt))
    """
    printed = run_unprivileged(_BEGIN + script, user_namespace=user_namespace)
    assert printed.splitlines() == ["one ['f']", "two ['g']", "None False []"]


@pytest.mark.usefixtures("with_dead_mounts")
@pytest.mark.parametrize("user_namespace", ROADS)
def test_whatever_happens_the_mount_goes_away(mounted: Mounted, user_namespace: bool) -> None:
    script = """
    pid = start()
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: mounting.find(mnt) is None and not is_alive(pid))

    pid = start()
    with (mnt / "f").open() as file:
        assert umount(mnt) == pid
        assert os.listdir(mnt) == []
        assert file.read() == "one"
    eventually(lambda: not is_alive(pid))

    for cure in (lambda: umount(mnt), umount_stale):
        pid = start()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid))
        try:
            os.listdir(mnt)
        except OSError as error:
            assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        try:
            start()
        except MountError as error:
            print(error, "|", error.hint)
        print(cure())
        assert os.listdir(mnt) == []
    """
    printed = run_unprivileged(_BEGIN + script, user_namespace=user_namespace).splitlines()
    assert printed[0] == printed[2]
    assert "process was killed | remove them: stratus umount /" in printed[0]
    assert printed[1] == "None"
    assert printed[3].endswith("/mnt')]")


@pytest.mark.parametrize("user_namespace", ROADS)
def test_a_place_that_cannot_be_made_is_refused_with_a_cure(mounted: Mounted, user_namespace: bool) -> None:
    script = """
    module.CVMFS = Path("/proc/cvmfs")
    try:
        mount(lambda: repository, None, cache=top / "cache")
    except MountError as error:
        print(error, "|", error.hint)
    """
    printed = run_unprivileged(_BEGIN + script, user_namespace=user_namespace)
    assert printed.startswith("/proc/cvmfs/small.example.org does not exist and cannot be made: ")
    assert '| sudo mkdir -p /proc/cvmfs/small.example.org && sudo chown "$USER" /proc/cvmfs/' in printed
