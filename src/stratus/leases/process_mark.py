"""Marks of processes: what a process leaves in a claim or the lock, so that others on its machine see that it ended.

A mark says which machine (host name and boot), which PID namespace, which process, and when that started. A process
that cannot be seen from here counts as alive: its claim or lock ends by expiry, as ever.
"""

from __future__ import annotations

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"
_FIELDS = 5


def this_process() -> str:
    """The mark of this process; empty where there is no ``/proc``."""
    started = _start_of(os.getpid())
    return "" if started is None else f"{_place()} {os.getpid()} {started}"


def has_ended(mark: str) -> bool:
    """Whether the process of this mark ran here and does not any more; what follows the mark is ignored."""
    fields = mark.split(" ")
    if len(fields) < _FIELDS or " ".join(fields[:3]) != _place() or not fields[3].isdigit():
        return False
    return _start_of(int(fields[3])) != fields[4]


def _place() -> str:
    try:
        return f"{os.uname().nodename} {_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)}"  # noqa: PTH115
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot; None for one that is not there, or is dead and not buried."""
    try:
        # The name in parentheses may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]
