"""Names that the kernel was told are not there: it remembers that for a while, and is told when they come."""

from __future__ import annotations

import time

KEEP = 5  # seconds for which the kernel may remember that a name is not there
_MOST = 50_000  # names in that time; searches along long paths ask for very many


class AbsentNames:
    """Those that the kernel may remember at the moment, by node of the directory. To be used under the owner's lock."""

    def __init__(self) -> None:
        self._older: dict[tuple[int, bytes], None] = {}
        self._newer: dict[tuple[int, bytes], None] = {}
        self._since = time.monotonic()

    def tell(self, parent: int, name: bytes) -> int:
        """Notes that the kernel is about to be told; gives the seconds for which it may remember."""
        now = time.monotonic()
        if now - self._since > KEEP:
            self._older = self._newer if now - self._since <= 2 * KEEP else {}
            self._newer = {}
            self._since = now
        if len(self._newer) >= _MOST:
            return 0
        self._newer[parent, name] = None
        return KEEP

    def all(self) -> list[tuple[int, bytes]]:
        """Each once."""
        return list({**self._older, **self._newer})
