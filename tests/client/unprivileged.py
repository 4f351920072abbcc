"""Scripts that run as an ordinary user, whoever runs the tests; nothing of the machine changes by it."""

from __future__ import annotations

import atexit
import ctypes
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from stratus.client.fuse import mounting

NOBODY = 65534
ROOT = Path(__file__).parents[2]

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x20000
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)


def run_unprivileged(script: str, *, user_namespace: bool) -> str:
    """What the script prints, which starts with its imports and ``top = become_ordinary()``.

    ``top`` is an empty directory of the user's. Skips the test where ordinary users may not make name spaces. The
    imports come first because the user may not be let into the directory with the code.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        if os.geteuid() == 0:
            os.chown(top, NOBODY, NOBODY)
        line = [sys.executable, "-c", textwrap.dedent(script), top, str(int(user_namespace))]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if "unshare:" in done.stderr:
        pytest.skip(f"an ordinary user may not make name spaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def become_ordinary() -> Path:
    """To be called by a script of ``run_unprivileged``; gives ``top``."""
    top, user_namespace = Path(sys.argv[1]), sys.argv[2] == "1"
    if os.getuid() == 0:
        _show_an_ordinary_machine(top)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # so that /proc/self is ours
    if user_namespace:
        uid, gid = os.getuid(), os.getgid()
        _unshare(_NEW_USER | _NEW_MOUNTS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    os.chdir(top)
    atexit.register(_leave_nothing, top)
    return top


def _leave_nothing(top: Path) -> None:
    for mounted in mounting.mounts():
        if mounted.kind == mounting.TYPE and mounted.directory.is_relative_to(top):
            mounting.detach(mounted.directory)


def _show_an_ordinary_machine(top: Path) -> None:
    """To this process only: everybody may open the device, and nobody has configured anything."""
    _unshare(_NEW_MOUNTS)
    _mount("none", Path("/"), None, _RECURSIVE | _PRIVATE)
    devices = top / "devices"
    devices.mkdir()
    _mount("none", devices, "tmpfs", 0)
    os.mknod(devices / "fuse", stat.S_IFCHR, Path(mounting.DEVICE).stat().st_rdev)
    (devices / "fuse").chmod(0o666)
    _mount(str(devices / "fuse"), Path(mounting.DEVICE), None, _BIND)
    configuration = Path("/etc/fuse.conf")
    if configuration.exists():
        _mount(os.devnull, configuration, None, _BIND)


def mount_tmpfs(directory: Path, size: str) -> None:
    """In the name space of the script only."""
    _mount("none", directory, "tmpfs", 0, f"size={size}")


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    name = None if kind is None else kind.encode()
    if _libc.mount(source.encode(), os.fsencode(target), name, ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")
