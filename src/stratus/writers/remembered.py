"""What this machine has stored before: from plain bytes to the objects that they became.

One SQLite file per repository and epoch of garbage collection, in the cache directory: what was stored in an epoch is
there until the next one begins, so a file of another epoch is dropped. Losing it costs time, nothing else. It is
written once all that it names is safe in the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from stratus.formats.compression import Packing
from stratus.formats.hashes import Algorithm
from stratus.ingest.overflow import Overflow

_LAYOUT = 1
_ASKED_AT_ONCE = 500
_HELD = 100_000  # rows; as many are read at once, in tenths of a second, and held; more of them are looked up


class Remembered:
    """Keys of plain bytes with digest and size of their objects. Errors of the file are never raised: it is dropped."""

    def __init__(self, directory: Path, url: str, fqrn: str, era: str, revision: int) -> None:
        """``era`` is new with each epoch, and for each repository; ``revision`` is the newest one that is known.

        A store that was put back to an older revision has lost objects, so what was remembered later is dropped.
        """
        name = hashlib.sha256(f"{url}\n{fqrn}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._file = directory / "stored" / f"{name}.sqlite"
        self._new = Overflow(_HELD)
        self._held: dict[bytes, tuple[bytes, int]] | None = None
        self._connection: sqlite3.Connection | None = None
        self._era = era
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._open(revision)
        except (OSError, sqlite3.Error):
            self._drop()

    def _open(self, revision: int) -> None:
        connection = self._connection = sqlite3.connect(self._file, timeout=5, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -32000")
        connection.execute("CREATE TABLE IF NOT EXISTS era (layout INTEGER, name TEXT, revision INTEGER)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS stored (key BLOB PRIMARY KEY, digest BLOB, size INTEGER) WITHOUT ROWID"
        )
        found = connection.execute("SELECT layout, name, revision FROM era").fetchone()
        if found is None or found[:2] != (_LAYOUT, self._era) or found[2] > revision:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM stored")
            connection.execute("DELETE FROM era")
            connection.execute("INSERT INTO era VALUES (?, ?, ?)", (_LAYOUT, self._era, revision))
            connection.execute("COMMIT")
        some = connection.execute("SELECT key, digest, size FROM stored LIMIT ?", (_HELD + 1,)).fetchall()
        if len(some) <= _HELD:
            self._held = {key: (digest, size) for key, digest, size in some}

    @property
    def has_news(self) -> bool:
        """Whether something was added that is not saved yet."""
        return bool(self._new)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, int]]:
        """Digest and size in bytes of the objects of those that are remembered."""
        if self._connection is None:
            return {}
        if self._held is not None:
            return {key: self._held[key] for key in keys if key in self._held}
        found = {}
        try:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                some = keys[start : start + _ASKED_AT_ONCE]
                query = f"SELECT key, digest, size FROM stored WHERE key IN ({','.join('?' * len(some))})"
                for key, digest, size in self._connection.execute(query, some):
                    found[key] = digest, size
        except sqlite3.Error:
            self._drop()
        return found

    def add(self, key: bytes, digest: bytes, size: int) -> None:
        """The object is stored; this is kept once ``save`` was called."""
        self._new.set(key, (digest, size))

    def save(self, revision: int) -> None:
        """All that was added is safe in the store, whose newest revision is this one at least."""
        if self._connection is None or not self._new:
            return
        rows = ((key, digest, size) for key, (digest, size) in self._new.items())
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            # Another process may have begun another era meanwhile.
            if self._connection.execute("SELECT name FROM era").fetchone() == (self._era,):
                self._connection.executemany("INSERT OR IGNORE INTO stored VALUES (?, ?, ?)", rows)
                self._connection.execute("UPDATE era SET revision = max(revision, ?)", (revision,))
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._drop()
        self._new.close()

    def close(self) -> None:
        """What was added and not saved is forgotten."""
        self._new.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _drop(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            self._file.unlink()


def era(nonce: str, algorithm: Algorithm, packing: Packing) -> str:
    """The era of a repository whose collection state has this nonce, for objects that are made like this."""
    return f"{nonce} {algorithm.value} {packing.value}"
