"""Mounting and unmounting: plain ``mount(2)`` where we may, the setuid helper ``fusermount3`` where we may not."""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

from stratus.errors import MountError

DEVICE = "/dev/fuse"
TYPE = "fuse.stratus"  # as /proc/self/mountinfo and `mount -t` show it

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_READAHEAD_KB = 1024

_OWNER = re.compile(rb"\b(user|group)_id=([0-9]+)")

_libc = ctypes.CDLL(None, use_errno=True)


class MountPoint(NamedTuple):
    """One line of ``/proc/self/mountinfo``.

    Attributes:
        directory: where; absolute, without links.
        device: ``major:minor``, different for all that are mounted at one time.
        kind: type of the file system.
        source: what the one who mounted gave as name; for ours the repository's.
        user: who mounted it, with ``group``; nobody else may look into what has no ``allow_other``. 0 if not told.
    """

    directory: Path
    device: str
    kind: str
    source: str
    user: int
    group: int


def mounts() -> list[MountPoint]:
    """All mounts that this process sees, in the order in which they were made; touches none of them."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        kind, source, options = after.split(b" ", 2)
        owner = dict(_OWNER.findall(options))
        found.append(
            MountPoint(
                Path(os.fsdecode(_unescape(fields[4]))),
                fields[2].decode(),
                os.fsdecode(kind),
                os.fsdecode(_unescape(source)),
                int(owner.get(b"user", 0)),
                int(owner.get(b"group", 0)),
            )
        )
    return found


def find(directory: Path) -> MountPoint | None:
    """The topmost mount exactly at ``directory`` (absolute, without links), whatever its type; touches no mount."""
    return next((mounted for mounted in reversed(mounts()) if mounted.directory == directory), None)


def attach(directory: Path, source: str) -> int:
    """Mounts read-only at ``directory`` (absolute); gives the open device that the loop serves.

    Everybody may use a mount made with privileges, only its owner one made by ``fusermount3``; the kernel checks
    permissions. Raises MountError.
    """
    _check_directory(directory)
    try:
        device = _attach_ourselves(directory, source)
    except PermissionError as error:
        if shutil.which("fusermount3") is None:
            raise MountError(
                f"not permitted to mount at {directory}: {error.strerror} ({error.filename})",
                hint="install fuse3 (for fusermount3), become root, or run inside `unshare -Urm`",
            ) from error
        device = _attach_by_helper(directory, source)
    _raise_readahead(directory)
    return device


def detach(directory: Path) -> bool:
    """Takes the mount away at once; whether it is still in use: what is open stays readable until it is closed.

    Raises MountError.
    """
    number = _unmount(directory, 0)
    if number == errno.EBUSY:
        number = _unmount(directory, _MNT_DETACH)
        if number == 0:
            return True
    if number == 0:
        return False
    reason = os.strerror(number)
    if number == errno.EPERM and shutil.which("fusermount3") is not None:
        for options in (["-u"], ["-u", "-z"]):
            done = subprocess.run(["fusermount3", *options, "--", directory], capture_output=True, check=False)
            if done.returncode == 0:
                return "-z" in options
        reason = os.fsdecode(done.stderr).strip()
    raise MountError(f"cannot unmount {directory}: {reason}", hint="unmount as the user who mounted it, or as root")


def _unmount(directory: Path, flags: int) -> int:
    """0 or an errno."""
    return ctypes.get_errno() if _libc.umount2(os.fsencode(directory), flags | _UMOUNT_NOFOLLOW) else 0


def _check_directory(directory: Path) -> None:
    """Raises MountError unless something can be mounted here; what is in the directory does not matter."""
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        raise MountError(f"{directory} does not exist", hint=f"make it first: mkdir -p {directory}") from None
    except OSError as error:
        dead = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        hint = "the mount above it is dead; `stratus umount --stale` removes what stratus left" if dead else None
        raise MountError(f"cannot mount at {directory}: {error.strerror}", hint=hint) from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{directory} is not a directory", hint="mount at a directory")


def _attach_ourselves(directory: Path, source: str) -> int:
    """By ``mount(2)``. Raises PermissionError if we may not, MountError for anything else."""
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MountError(
            f"there is no {DEVICE}", hint="load the module with `modprobe fuse`; a container needs `--device /dev/fuse`"
        ) from None
    except PermissionError:
        raise
    except OSError as error:
        raise MountError(f"cannot open {DEVICE}: {error.strerror}", hint="load the module: modprobe fuse") from error
    options = (
        f"fd={device},rootmode={stat.S_IFDIR:o},user_id={os.getuid()},group_id={os.getgid()},"
        "default_permissions,allow_other"
    )
    flags = ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    if _libc.mount(os.fsencode(source), os.fsencode(directory), TYPE.encode(), flags, options.encode()) == 0:
        return device
    number = ctypes.get_errno()
    os.close(device)
    if number == errno.EPERM:
        raise PermissionError(number, os.strerror(number), "mount")
    raise MountError(f"cannot mount at {directory}: {os.strerror(number)}")


def _attach_by_helper(directory: Path, source: str) -> int:
    """By ``fusermount3``, which sends the device over the socket that ``_FUSE_COMMFD`` names."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            [
                "fusermount3",
                "-o",
                f"ro,nosuid,nodev,default_permissions,fsname={source},subtype={TYPE.partition('.')[2]}",
                "--",
                directory,
            ],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            check=False,
        )
        theirs.close()
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(array.array("i").itemsize))
    devices = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            devices.frombytes(data[: len(data) - len(data) % devices.itemsize])
    if done.returncode != 0 or not devices:
        reason = os.fsdecode(done.stderr).strip() or f"fusermount3 ended with {done.returncode}"
        raise MountError(f"cannot mount at {directory}: {reason}", hint="check that you own the directory")
    os.set_inheritable(devices[0], False)
    return devices[0]


def _raise_readahead(directory: Path) -> None:
    """Lets the kernel read 1 MiB ahead instead of 128 KiB; INIT alone can only lower it. Root only, else unchanged."""
    mounted = find(directory)
    if mounted is not None:
        with contextlib.suppress(OSError):
            Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb").write_text(str(_READAHEAD_KB))


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
