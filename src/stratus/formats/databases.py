"""Small SQLite databases that are edited in memory and kept as bytes: history and reflog.

As the stock tools want them: rollback-journal mode, table ``properties`` with ``schema``, ``schema_revision`` and
``fqrn``. Text may be anything, so it travels as UTF-8 with surrogate escapes and is bound by ``text``.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from stratus.errors import BadFormat

_MAX_FREE_PAGES = 0.20  # of all
PROPERTIES = """
PRAGMA page_size = 1024;
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
"""


def create(script: str) -> sqlite3.Connection:
    """A new database in memory, made by PROPERTIES and ``script``."""
    database = _connect()
    database.executescript(PROPERTIES + script)
    return database


def parse(data: bytes, what: str, schema_revision: str, probe: str, sound: bool = False) -> sqlite3.Connection:
    """The database in ``data``, checked to be sound, of the schema 1.0 that is wanted, and to answer ``probe``.

    Raises BadFormat; ``what`` is for the message. What is known to be ``sound``, by its hash, is not read as a whole.
    """
    if not data:  # which sqlite3 takes for a lack of memory
        raise BadFormat(f"an empty {what}")
    database = _connect()
    try:
        database.deserialize(data)
        if not sound:
            _check_pages(database, what)
        _check_schema(database, what, schema_revision, probe)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from messages that quote what is broken
        database.close()
        raise BadFormat(f"not a {what}: {error}") from error
    except BadFormat:
        database.close()
        raise
    return database


def _check_pages(database: sqlite3.Connection, what: str) -> None:
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise BadFormat(f"a damaged {what}: {verdict}")


def _check_schema(database: sqlite3.Connection, what: str, schema_revision: str, probe: str) -> None:
    schema = (property_text(database, "schema"), property_text(database, "schema_revision"))
    if schema != ("1.0", schema_revision):
        raise BadFormat(f"a {what} of schema {schema[0]}, revision {schema[1]}")
    if not property_text(database, "fqrn"):
        raise BadFormat(f"a {what} that does not name its repository")
    database.execute(probe).fetchone()


def pack(database: sqlite3.Connection) -> bytes:
    """The bytes of the SQLite file, without many free pages."""
    free, pages = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if free > _MAX_FREE_PAGES * pages:
        database.execute("VACUUM")
    return database.serialize()


def select(database: sqlite3.Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows that a query finds. Raises BadFormat where the database is damaged after all."""
    try:
        return database.execute(query, values).fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise BadFormat(f"a damaged database: {error}") from error


def text(value: str) -> bytes:
    """What is bound to ``CAST(? AS TEXT)``."""
    return value.encode("utf-8", "surrogateescape")


def property_text(database: sqlite3.Connection, key: str) -> str | None:
    """The value of a property; None if it is not set."""
    found = select(database, "SELECT CAST(value AS TEXT) FROM properties WHERE key = ?", key)
    return found[0][0] if found else None


def set_property(database: sqlite3.Connection, key: str, value: str) -> None:
    """Sets a property."""
    database.execute("INSERT OR REPLACE INTO properties VALUES (?, CAST(? AS TEXT))", (key, text(value)))


def _connect() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return database
