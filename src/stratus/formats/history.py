"""The history: a SQLite database with the tags of a repository, kept as an object (zlib, suffix ``H``).

Schema 1.0, revision 3. ``trunk`` is the head and ``trunk-previous`` what it was before; both move with every
revision. Only the default branch (``""``) is written here; what other branches a stock publisher made is kept.
Source: ``cvmfs/history_sql.cc``, ``cvmfs/history_sqlite.cc``.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from stratus.errors import BadName
from stratus.formats import databases
from stratus.formats.hashes import DIGEST_SIZE, Digest

TRUNK = "trunk"
TRUNK_PREVIOUS = "trunk-previous"
TRUNK_DESCRIPTION = "current HEAD"
TRUNK_PREVIOUS_DESCRIPTION = "default undo target"

_NAME = re.compile(r"[A-Za-z0-9._/:-]{1,255}")
_NONE = "0" * 2 * DIGEST_SIZE  # the first database has no predecessor
_TABLES = """
CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, CONSTRAINT pk_branch PRIMARY KEY (branch),
    FOREIGN KEY (parent) REFERENCES branches (branch), CHECK ((branch <> '') OR (parent IS NULL)),
    CHECK ((branch = '') OR (parent IS NOT NULL)));
CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT,
    size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name),
    FOREIGN KEY (branch) REFERENCES branches (branch));
CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));
INSERT INTO branches VALUES ('', NULL, 0);
INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '3');
"""
_COLUMNS = "name, hash, revision, timestamp, size, description, branch"


class Tag(msgspec.Struct, frozen=True):
    """A name for a revision.

    Attributes:
        root: its root catalog.
        timestamp: when the revision was made, Unix time in seconds.
        size: bytes of the root catalog's SQLite file.
        branch: empty for the default branch.
    """

    name: str
    root: Digest
    revision: int
    timestamp: int
    size: int
    description: str = ""
    branch: str = ""


def check_tag_name(name: str) -> str:
    """``name`` itself. Raises BadName unless a user may give it to a tag: ``trunk`` and ``trunk-previous`` move by
    themselves."""
    if not _NAME.fullmatch(name):
        raise BadName(f"{name!r} is not a tag name", hint="use at most 255 letters, digits and . _ / : -")
    if name in (TRUNK, TRUNK_PREVIOUS):
        raise BadName(f"the tag {name!r} moves by itself", hint="choose another name")
    return name


class History:
    """The tags of a repository, edited in memory."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self.fqrn = databases.property_text(database, "fqrn") or ""

    @classmethod
    def create(cls, fqrn: str) -> Self:
        """A history without tags; ``advance`` it before it is packed, the stock ``check`` wants a tag."""
        database = databases.create(_TABLES)
        databases.set_property(database, "fqrn", fqrn)
        return cls(database)

    @classmethod
    def parse(cls, data: bytes, sound: bool = False) -> Self:
        """From the bytes of the SQLite file; ``sound`` if their hash was verified.

        Raises BadFormat unless it is of schema revision 3.
        """
        return cls(databases.parse(data, "history", "3", f"SELECT {_COLUMNS}, channel FROM tags", sound))

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def previous(self) -> Digest | None:
        """The history object that this one replaced."""
        text = databases.property_text(self._db, "previous_revision")
        return None if not text or text.startswith(_NONE) else Digest.parse(text)

    def tags(self, prefix: str = "") -> list[Tag]:
        """The tags of all branches whose names begin so, newest revision first; of one revision by name."""
        begins = databases.text(prefix)
        clause = "WHERE substr(CAST(name AS BLOB), 1, ?) = ? ORDER BY revision DESC, name"
        return self._select(clause, len(begins), begins)

    def find(self, name: str) -> Tag | None:
        """The tag of that name, ``trunk`` and ``trunk-previous`` included."""
        return self._first("WHERE name = CAST(? AS TEXT)", databases.text(name))

    def at(self, when: datetime) -> Tag | None:
        """The newest revision of the default branch that is tagged and not younger than ``when`` (aware)."""
        return self._first("WHERE branch = '' AND timestamp <= ? ORDER BY revision DESC, name", int(when.timestamp()))

    def revision(self, number: int) -> Tag | None:
        """A tag of that revision on the default branch."""
        return self._first("WHERE branch = '' AND revision = ? ORDER BY name", number)

    def put(self, tag: Tag) -> None:
        """Adds the tag, or moves the one of that name."""
        values = (
            databases.text(tag.name),
            str(tag.root),
            tag.revision,
            tag.timestamp,
            tag.size,
            databases.text(tag.description),
            databases.text(tag.branch),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO tags (name, hash, revision, timestamp, size, description, branch, channel) "
            "VALUES (CAST(? AS TEXT), ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), 0)",
            values,
        )

    def remove(self, name: str) -> bool:
        """Takes the tag away; False if there was none."""
        return bool(self._db.execute("DELETE FROM tags WHERE name = CAST(? AS TEXT)", (databases.text(name),)).rowcount)

    def advance(self, head: Tag) -> None:
        """Makes ``head`` (its own name does not matter) the trunk, and the trunk that was the previous one.

        Doing it again with the same revision and root changes nothing.
        """
        trunk = self.find(TRUNK)
        if trunk is not None and (trunk.revision, trunk.root) != (head.revision, head.root):
            self.put(replace(trunk, name=TRUNK_PREVIOUS, description=TRUNK_PREVIOUS_DESCRIPTION))
        self.put(replace(head, name=TRUNK, description=TRUNK_DESCRIPTION, branch=""))

    def pack(self, previous: Digest | None) -> bytes:
        """The bytes of the SQLite file; ``previous`` is the history object that it replaces, None for the first."""
        databases.set_property(self._db, "previous_revision", _NONE if previous is None else str(previous))
        return databases.pack(self._db)

    def _select(self, clause: str, *values: Any) -> list[Tag]:
        found = databases.select(self._db, f"SELECT {_COLUMNS} FROM tags {clause}", *values)
        return [Tag(name, Digest.parse(str(root)), *rest) for name, root, *rest in found]

    def _first(self, clause: str, *values: Any) -> Tag | None:
        found = self._select(f"{clause} LIMIT 1", *values)
        return found[0] if found else None
