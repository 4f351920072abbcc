"""What the benchmarks share: commands that are measured with all the processes they start, tables, and results.

Every result is a median with the least and the largest value beside it, and all single values; ``results/<part>.json``
has them with the machine that they are of. Wall time says what a user waits; CPU time, which the neighbours on a busy
machine disturb less, what the work is.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
STRATUS = str(Path(sys.executable).with_name("stratus"))
_PAUSE = 0.02  # seconds between two looks at a process tree
_TICKS = os.sysconf("SC_CLK_TCK")


# -- the machine -----------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the numbers depend on; ``load`` is the average of the last minute, before the first measurement."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


# -- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Values:
    """One quantity, measured several times."""

    unit: str
    raw: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.raw)

    def times(self, factor: float, unit: str) -> Values:
        """The same in another unit."""
        return Values(unit, tuple(factor * value for value in self.raw))

    def per(self, amount: float, unit: str) -> Values:
        """The speed at which ``amount`` was done, where these are seconds."""
        return Values(unit, tuple(amount / value for value in self.raw))

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "median": self.median,
            "min": min(self.raw),
            "max": max(self.raw),
            "values": self.raw,
        }

    def __str__(self) -> str:
        """Such as ``1234 (1200-1290)``."""
        if len(self.raw) == 1:
            return rounded(self.median)
        return f"{rounded(self.median)} ({rounded(min(self.raw))}-{rounded(max(self.raw))})"


def rounded(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The first column to the left, the others to the right."""
    lines = [[str(head) for head in heads], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        others = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("  ".join((line[0].ljust(widths[0]), *others)).rstrip(), flush=True)


def write_results(part: str, of: Mapping[str, Any], found: Mapping[str, Any]) -> Path:
    """``results/<part>.json``: the machine and what was found; ``Values`` with median, spread and raw values."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{part}.json"
    file.write_text(json.dumps({"machine": of, **found}, indent=2, default=_to_json) + "\n")
    print(f"\nwrote {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
    return file


def _to_json(value: Any) -> Any:
    return value.to_json() if hasattr(value, "to_json") else {name: getattr(value, name) for name in value.__slots__}


# -- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Used:
    """What one command took, with all that it started and waited for: seconds.

    Attributes:
        output: what it printed.
        peak: bytes that the processes had together when they had most (``Pss``: what they share counts once).
        marks: the sum of each process's own largest size (``VmHWM``) in bytes: shared pages count several times.
        first: CPU seconds of the command itself, without its children.
    """

    wall: float
    cpu: float
    output: str
    peak: int = 0
    marks: int = 0
    first: float = 0.0


def run(
    command: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str] | None = None,
    cores: Collection[int] | None = None,
    watched: bool = False,
) -> Used:
    """Runs a command, on these processors only, and waits; ``watched`` measures its memory too, at a price in speed.

    Raises CalledProcessError; what the command said is on standard error then.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if cores is None else cores)  # children inherit it
    begun = time.perf_counter()
    try:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    finally:
        os.sched_setaffinity(0, before)
    watch = _Watch(process.pid) if watched else None
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if watch is not None:
        watch.end()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, [str(word) for word in command], output)
    cpu = usage.ru_utime + usage.ru_stime
    if watch is None:
        return Used(wall, cpu, output)
    return Used(wall, cpu, output, watch.peak, sum(watch.marks.values()), watch.first)


@dataclass
class _Watch:
    """Looks at a process and its descendants every few milliseconds."""

    pid: int
    peak: int = 0
    first: float = 0.0
    marks: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_PAUSE):
            together = 0
            for pid in descendants(self.pid):
                with contextlib.suppress(OSError):  # it has ended
                    together += _kilobytes(pid, "smaps_rollup", "Pss") << 10
                    self.marks[pid] = max(self.marks.get(pid, 0), _kilobytes(pid, "status", "VmHWM") << 10)
            self.peak = max(self.peak, together)
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
                self.first = max(self.first, (int(words[11]) + int(words[12])) / _TICKS)


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def _kilobytes(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def walls(runs: Iterable[Used]) -> Values:
    return Values("s", tuple(one.wall for one in runs))


def cpus(runs: Iterable[Used]) -> Values:
    return Values("s", tuple(one.cpu for one in runs))
