"""A mapping that is held in memory as long as it is small, and in a file of its own that nobody sees when it is not."""

from __future__ import annotations

import marshal
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stratus.errors import StratusError

_ASKED_AT_ONCE = 500
_CACHE = 8 << 10  # KiB of the file that SQLite holds


class Overflow:
    """From bytes to values that are not None; ``most`` of them at a time are in memory.

    The file is a temporary one of SQLite's: it has no name, and goes when ``close`` is called or the process ends.
    """

    def __init__(
        self,
        most: int,
        pack: Callable[[Any], bytes] = marshal.dumps,
        unpack: Callable[[bytes], Any] = marshal.loads,
    ) -> None:
        self._most = most
        self._pack = pack
        self._unpack = unpack
        self._held: dict[bytes, Any] = {}
        self._order: list[bytes] | None = None
        self._file: sqlite3.Connection | None = None

    def set(self, key: bytes, value: Any) -> None:
        """The value at ``key`` from now on."""
        if len(self._held) >= self._most:
            self._spill()
        self._held[key] = value
        self._order = None

    def get(self, key: bytes) -> Any:
        """The value; None if there is none."""
        found = self._held.get(key)
        if found is None and self._file is not None:
            row = self._file.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
            found = None if row is None else self._unpack(row[0])
        return found

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """The values of those that have one."""
        found = {key: self._held[key] for key in keys if key in self._held}
        if self._file is not None:
            rest = [key for key in keys if key not in found]
            for start in range(0, len(rest), _ASKED_AT_ONCE):
                some = rest[start : start + _ASKED_AT_ONCE]
                query = f"SELECT key, value FROM kept WHERE key IN ({','.join('?' * len(some))})"
                found |= {key: self._unpack(value) for key, value in self._file.execute(query, some)}
        return found

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def __bool__(self) -> bool:
        return bool(self._held) or self._file is not None

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """Keys and values by key, from ``start`` to before ``end``; nothing may be set meanwhile."""
        if self._file is None:
            if self._order is None:
                self._order = sorted(self._held)
            order, held = self._order, self._held
            stop = len(order) if end is None else bisect_left(order, end)
            for index in range(bisect_left(order, start), stop):
                key = order[index]
                yield key, held[key]
            return
        self._spill()
        query, bounds = "SELECT key, value FROM kept WHERE key >= ?", (start,) if end is None else (start, end)
        for key, value in self._file.execute(f"{query}{' AND key < ?' * (len(bounds) - 1)} ORDER BY key", bounds):
            yield key, self._unpack(value)

    @property
    def is_held(self) -> bool:
        """Whether all of it is in memory."""
        return self._file is None

    def keys(self) -> Iterator[bytes]:
        """All keys in their order."""
        return (key for key, _ in self.items())

    def _spill(self) -> None:
        try:
            self._write()
        except sqlite3.Error as error:
            raise StratusError(
                f"a temporary file cannot be written: {error}",
                hint="make room where temporary files are, or name another directory with SQLITE_TMPDIR",
            ) from error

    def _write(self) -> None:
        if self._file is None:
            # one thread at a time uses it, but whichever collects garbage may be the one that ends it
            self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
                self._file.execute(f"PRAGMA {setting}")
            self._file.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        if self._held:
            rows = ((key, self._pack(self._held[key])) for key in sorted(self._held))
            self._file.execute("BEGIN")
            self._file.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)
            self._file.execute("COMMIT")
            self._held.clear()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def close(self) -> None:
        """Everything is forgotten."""
        self._held.clear()
        self._order = None
        if self._file is not None:
            self._file.close()
            self._file = None
