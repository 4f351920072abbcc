"""How far a publish is: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from stratus.cli.printing import bytes_, seconds

_BAR = 20  # characters
_REDRAWN = 0.2  # seconds between two looks of the bar
_REPEATED = 60.0  # and between two lines


class Drawn:
    """Is called with files and bytes so far, and with those of all once they are known."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._terminal = out.isatty()
        self._begun = clock()
        # What is over at once is not worth a line.
        self._next = self._begun + (_REDRAWN if self._terminal else _REPEATED)
        self._shown = False

    def __call__(self, files: int, size: int, all_files: int | None, all_size: int | None) -> None:
        now = self._clock()
        is_done = files == all_files
        if is_done and self._shown and self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False
        if is_done or now < self._next:
            return
        self._next = now + (_REDRAWN if self._terminal else _REPEATED)
        text = self._text(now - self._begun, files, size, all_files, all_size)
        self._out.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._out.flush()
        self._shown = True

    def _text(self, passed: float, files: int, size: int, all_files: int | None, all_size: int | None) -> str:
        rate = f"{files / passed:,.0f} files/s, {bytes_(int(size / passed))}/s"
        if all_files is None or all_size is None:
            return f"{files:,} files, {bytes_(size)} ({rate})"
        # A file costs about as much as 50 kB do.
        part = (size + files * 50_000) / max(all_size + all_files * 50_000, 1)
        bar = f"[{'#' * round(part * _BAR):<{_BAR}}] " if self._terminal else ""
        left = f", {seconds(passed / part - passed)} left" if part else ""
        return f"{bar}{files:,} of {all_files:,} files, {bytes_(size)} of {bytes_(all_size)} ({rate}{left})"
