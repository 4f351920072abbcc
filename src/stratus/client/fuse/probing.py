"""Whether anybody answers for a mount, and who; found out without ever being held up by one that does not answer."""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import NamedTuple

from stratus.client.fuse.mounting import MountPoint

_PATIENCE = 2.0  # seconds
_DEAD = frozenset({errno.ENOTCONN, errno.ECONNABORTED})


class Health(NamedTuple):
    """What can be told of a mount.

    Attributes:
        dead: the process that answered is gone, so that everything fails with ENOTCONN.
        pid: of the process that answers; None if it does not within two seconds, or not to us.
    """

    dead: bool
    pid: int | None = None


def probe(mounted: MountPoint) -> Health:
    """Asks the file system itself, in a child process, for who asks what never answers cannot be stopped.

    Root asks as the user who mounted it, since nobody else may look into a mount made by ``fusermount3``.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _ask(mounted, theirs)
    os.close(theirs)
    try:
        answered, _, _ = select.select([ours], [], [], _PATIENCE)
        answer = os.read(ours, 64) if answered else b""
    finally:
        os.close(ours)
    if not answered:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0 if answered else os.WNOHANG)
    if answer.startswith(b"-"):
        return Health(dead=-int(answer) in _DEAD)
    return Health(dead=False, pid=int(answer) if answer else None)


def ended(pid: int, seconds: float) -> bool:
    """Waits until the process is gone, or the time is up."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def _ask(mounted: MountPoint, told: int) -> None:
    """In the child: writes the pid, or the negative errno, and never returns."""
    try:
        if os.geteuid() == 0 and mounted.user != 0:
            os.setgroups([])
            os.setresgid(*[mounted.group] * 3)
            os.setresuid(*[mounted.user] * 3)
        # Of all that can be asked without side effects this is what the kernel never answers from memory.
        os.write(told, os.getxattr(mounted.directory, "user.pid"))
    except OSError as error:
        os.write(told, b"%d" % -(error.errno or errno.EIO))
    finally:
        os._exit(0)
