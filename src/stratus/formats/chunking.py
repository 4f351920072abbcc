"""Where large files are cut: the stock publisher's check sum over a sliding window, bit for bit.

Every byte shifts a 32-bit register to the left by one and is XORed into it, so the register only ever depends on the
last 32 bytes. A chunk ends before a byte that brings the register close to 0x7fffffff, no sooner than the minimum and
no later than the maximum. The choice of cuts decides what can be deduplicated, never what can be read.
(CernVM-FS: ``ingestion/chunk_detector``, the detector called Xor32.)
"""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from stratus.errors import UsageError
from stratus.memory import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WINDOW = 32  # bytes that the register remembers
_CENTRE = 0x7FFFFFFF
_THREADS = "OPENBLAS_NUM_THREADS"
_NUMPY = 96 << 20  # bytes of address space that it takes to load it
_SPAN = 64 << 10  # bytes per step: the arrays stay in the processor's cache


class ChunkLimits(msgspec.Struct, frozen=True):
    """How large chunks may be and on average shall be, in bytes. Raises UsageError unless 32 <= min < avg < max."""

    minimum: int = 4 << 20
    average: int = 8 << 20
    maximum: int = 16 << 20

    def __post_init__(self) -> None:
        if not _WINDOW <= self.minimum < self.average < self.maximum:
            raise UsageError(
                f"chunks of {self.minimum} to {self.maximum} bytes, {self.average} on average, cannot be",
                hint=f"the minimum is at least {_WINDOW} bytes, the average larger, the maximum larger still",
            )


class ChunkDetector:
    """Finds the cuts in one file that is fed piece by piece; the result does not depend on the pieces.

    A file has n + 1 chunks if there are n cuts; one that is not larger than the minimum has none.
    """

    def __init__(self, limits: ChunkLimits) -> None:
        self._minimum = limits.minimum
        self._maximum = limits.maximum
        self._threshold = 0xFFFFFFFF // limits.average
        self._last = 0  # offset of the last cut
        self._fed = 0
        self._tail = b""

    def feed(self, data: bytes) -> list[int]:
        """The cuts, as offsets in the file, that are certain now: at each, a byte that was fed starts a chunk."""
        np = _numpy()
        cuts: list[int] = []
        known = self._tail + data
        origin = self._fed - len(self._tail)  # offset of known[0]
        array = np.frombuffer(known, np.uint8)
        end = self._fed + len(data)
        for start in range(self._fed, end, _SPAN):
            stop = min(start + _SPAN, end)
            first = max(start, self._last + self._minimum)
            if first < stop:
                hits = first + self._hits(array[first - origin - _WINDOW + 1 : stop - origin])
                cuts += self._cuts(hits, stop)
        self._fed = end
        self._tail = known[-_WINDOW + 1 :]
        return cuts

    def _cuts(self, hits: NDArray[np.int64], stop: int) -> list[int]:
        """The cuts before ``stop``, given all hits between the earliest next cut and there."""
        import numpy as np

        cuts = []
        while (earliest := self._last + self._minimum) < stop:
            latest = self._last + self._maximum
            index = int(np.searchsorted(hits, earliest))
            if index < len(hits) and hits[index] < latest:
                self._last = int(hits[index])
            elif latest < stop:
                self._last = latest
            else:
                break
            cuts.append(self._last)
        return cuts

    def _hits(self, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Where the register is close to the centre, counted from ``data[31]``."""
        import numpy as np

        register = data.astype(np.uint32)
        for shift in (1, 2, 4, 8, 16):  # each step doubles the number of bytes that are summed up
            register[shift:] ^= register[:-shift] << np.uint32(shift)
        distance = (register[_WINDOW - 1 :] - np.uint32(_CENTRE)).view(np.int32)
        # The absolute value of the lowest number wraps to itself, here as in the stock tools: a hit.
        return np.flatnonzero(np.abs(distance) < self._threshold).astype(np.int64)


@functools.cache
def _numpy() -> ModuleType:
    """Loaded late: it takes a tenth of a second, which most have no use for. Raises MemoryError.

    Its linear algebra, for which there is no use here, would reserve memory for each processor, and end the process
    where there is none.
    """
    require(_NUMPY)
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        import numpy as np
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
    return np
