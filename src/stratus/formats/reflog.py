"""The reflog (``.cvmfsreflog``): every root catalog, certificate, history and meta-info that was ever published.

A SQLite database, stored uncompressed; the manifest names the hash of its bytes. Garbage collection starts from it, so
what it does not name is never collected. Schema 1.0, revision 0. Source: ``cvmfs/reflog_sql.cc``.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Self

import msgspec

from stratus.errors import BadFormat
from stratus.formats import databases
from stratus.formats.hashes import Digest

_TABLES = """
CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));
INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '0');
"""


class RefKind(Enum):
    """What a reference names; the value is the number in the database."""

    CATALOG = 0
    CERTIFICATE = 1
    HISTORY = 2
    META_INFO = 3


class Ref(msgspec.Struct, frozen=True):
    """One object that was published; ``timestamp`` is when it was last added, Unix time in seconds."""

    digest: Digest
    kind: RefKind
    timestamp: int


class Reflog:
    """The references of a repository, edited in memory."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self.fqrn = databases.property_text(database, "fqrn") or ""

    @classmethod
    def create(cls, fqrn: str) -> Self:
        """An empty one."""
        database = databases.create(_TABLES)
        databases.set_property(database, "fqrn", fqrn)
        return cls(database)

    @classmethod
    def parse(cls, data: bytes, sound: bool = False) -> Self:
        """From the bytes of the file; ``sound`` if their hash was verified.

        Raises BadFormat for what the stock tools would abort on.
        """
        return cls(databases.parse(data, "reflog", "0", "SELECT hash, type, timestamp FROM refs", sound))

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refs(self) -> list[Ref]:
        """All references, in the order in which they were added. Raises BadFormat for a kind that is not known."""
        found = databases.select(self._db, "SELECT hash, type, timestamp FROM refs ORDER BY rowid")
        return [Ref(Digest.parse(str(digest)), _kind(number), timestamp) for digest, number, timestamp in found]

    def add(self, kind: RefKind, digest: Digest, timestamp: int) -> None:
        """Adds a reference; adding it again sets its time and moves it to the end."""
        self._db.execute("INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", (str(digest), kind.value, timestamp))

    def remove(self, digest: Digest) -> bool:
        """Takes a reference away; False if there was none."""
        return bool(self._db.execute("DELETE FROM refs WHERE hash = ?", (str(digest),)).rowcount)

    def __contains__(self, digest: object) -> bool:
        return self._db.execute("SELECT 1 FROM refs WHERE hash = ?", (str(digest),)).fetchone() is not None

    def pack(self) -> bytes:
        """The bytes of the file."""
        return databases.pack(self._db)


def _kind(number: int) -> RefKind:
    try:
        return RefKind(number)
    except ValueError:
        raise BadFormat(f"{number} is not a kind of reference in a reflog") from None
