"""Mounting and unmounting: in the background, by signals, after crashes, without privileges."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stratus.client.fuse import mounting
from stratus.client.mount import mount, umount, umount_stale
from stratus.errors import MountError
from tests.client.conftest import Mounted, eventually, is_alive
from tests.client.trees import SmallRepository, directory

ROOT = Path(__file__).parents[2]


def gone(mounted: Mounted) -> bool:
    return mounting.find(mounted.directory) is None and not is_alive(mounted.pid)


def test_unmounting_ends_the_process(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([])
    mounted.start()
    assert os.getsid(mounted.pid) != os.getsid(0)
    assert umount(mounted.directory) is None
    assert gone(mounted)
    mounted.start()
    assert mounted.names() == []


def test_a_busy_mount_goes_away_at_once_and_stays_readable_for_who_is_in_it(
    repository: SmallRepository, mounted: Mounted
) -> None:
    data = os.urandom(3_000_000)
    repository.publish([repository.file(b"/f", data)])
    mounted.start()
    with (mounted / "f").open("rb", buffering=0) as file:
        assert umount(mounted.directory) == mounted.pid
        assert mounted.names() == []
        assert os.pread(file.fileno(), len(data), 0) == data
        assert is_alive(mounted.pid)
    eventually(lambda: gone(mounted))


def test_who_works_in_a_mount_does_not_keep_it(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"1")])
    mounted.start()
    with subprocess.Popen(["sh", "-c", "read x; cat f"], cwd=mounted / "d", stdin=-1, stdout=-1) as worker:
        assert umount(mounted.directory) == mounted.pid
        old = mounted.pid
        mounted.start()
        assert (mounted / "d/f").read_bytes() == b"1"
        assert worker.communicate(b"\n")[0] == b"1"
    eventually(lambda: not is_alive(old))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(repository: SmallRepository, mounted: Mounted, number: signal.Signals) -> None:
    repository.publish([])
    mounted.start()
    os.kill(mounted.pid, number)
    eventually(lambda: gone(mounted))


@pytest.mark.usefixtures("with_dead_mounts")
def test_a_killed_process_leaves_what_umount_cures(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/f", b"1")])
    mounted.start()
    os.kill(mounted.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(mounted.pid))
    with pytest.raises(OSError) as lost:
        mounted.names()
    assert lost.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    with pytest.raises(MountError, match="process was killed") as caught:
        mounted.start()
    assert caught.value.hint == f"remove them: stratus umount {mounted.directory}"
    umount(mounted.directory)
    mounted.start()
    assert (mounted / "f").read_bytes() == b"1"


@pytest.mark.usefixtures("with_dead_mounts")
def test_what_killed_processes_left_is_found_and_removed(
    repository: SmallRepository, mounted: Mounted, tmp_path: Path
) -> None:
    repository.publish([])
    mounted.start()
    os.kill(mounted.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(mounted.pid))
    (tmp_path / "alive").mkdir()
    other = Mounted(repository, tmp_path / "alive", mounted.cache)
    other.start()
    try:
        assert mounted.directory in umount_stale()
        assert mounting.find(mounted.directory) is None
        assert other.names() == []
        assert umount_stale() == []
    finally:
        other.end()


@pytest.mark.usefixtures("with_dead_mounts")
def test_a_process_that_does_not_answer_holds_nobody_up(
    repository: SmallRepository, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratus.client.fuse.probing._PATIENCE", 0.2)
    repository.publish([])
    mounted.start()
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        assert umount_stale() == []
        with pytest.raises(MountError, match="already"):
            mounted.start()
        umount(mounted.directory)
        assert mounted.names() == []
    finally:
        os.kill(mounted.pid, signal.SIGCONT)
    eventually(lambda: gone(mounted))


def test_the_usual_place_is_made_and_removed(
    repository: SmallRepository, mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratus.client.mount.CVMFS", tmp_path / "cvmfs")
    repository.publish([repository.file(b"/f", b"1")])
    mounted.directory = mount(lambda: repository, None, cache=mounted.cache)
    assert mounted.directory == tmp_path / "cvmfs" / repository.fqrn
    assert (mounted / "f").read_bytes() == b"1"
    with pytest.raises(MountError, match="already"):
        mount(lambda: repository, None, cache=mounted.cache)
    umount(mounted.directory)
    assert not (tmp_path / "cvmfs").exists()
    (tmp_path / "cvmfs/other").mkdir(parents=True)
    mount(lambda: repository, None, cache=mounted.cache)
    umount(mounted.directory)
    assert [path.name for path in (tmp_path / "cvmfs").iterdir()] == ["other"]


@pytest.mark.usefixtures("with_dead_mounts")
def test_a_mount_is_found_through_links(repository: SmallRepository, mounted: Mounted, tmp_path: Path) -> None:
    repository.publish([])
    mounted.start()
    (tmp_path / "link").symlink_to(mounted.directory)
    umount(tmp_path / "link")
    assert mounting.find(mounted.directory) is None
    mounted.start()
    os.kill(mounted.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(mounted.pid))
    (tmp_path / "above").symlink_to(tmp_path)
    umount(tmp_path / "above/mnt")
    assert mounting.find(mounted.directory) is None


def test_refusals_say_what_to_do(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([])
    with pytest.raises(MountError, match="no repository is mounted"):
        umount(mounted.directory)
    mounted.start()
    with pytest.raises(MountError, match="already"):
        mounted.start()
    mounted.end()
    mounted.directory.rmdir()
    with pytest.raises(MountError, match="does not exist") as caught:
        mounted.start()
    assert "mkdir" in caught.value.hint
    mounted.directory.write_text("")
    with pytest.raises(MountError, match="not a directory"):
        mounted.start()


def test_other_file_systems_are_not_unmounted() -> None:
    with pytest.raises(MountError):
        umount(Path("/proc"))


_FOREGROUND = """
    import sys
    from pathlib import Path
    from stratus.client.mount import mount
    from tests.client.trees import SmallRepository, directory
    top = Path(sys.argv[1])
    mount(lambda: SmallRepository(top / "repository"), top / "mnt", cache=top / "cache", foreground=True)
    print("unmounted")
"""


def test_in_the_foreground_it_ends_with_an_interrupt(
    repository: SmallRepository, mounted: Mounted, tmp_path: Path
) -> None:
    repository.publish([repository.file(b"/f", b"1")])
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_FOREGROUND), tmp_path], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        try:
            eventually(lambda: mounting.find(mounted.directory) is not None)
            assert (mounted / "f").read_bytes() == b"1"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10)[0] == b"unmounted\n"
        finally:
            process.kill()
    assert process.returncode == 0
