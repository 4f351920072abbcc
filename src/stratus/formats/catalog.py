"""File catalogs: one SQLite database with the rows of one sub tree.

Schema 2.5, revision 7, as the stock tools write it: rollback-journal mode, pages of 1024 bytes, an ordinary rowid
table (the stock client derives inodes from rowids, so they are kept dense). Names and link targets are arbitrary
bytes of SQLite type TEXT. Rows are found by the MD5 of the absolute path in the repository, in two signed halves.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import quote

import msgspec

from stratus.errors import BadFormat, Rejected
from stratus.formats import counters, paths, rows
from stratus.formats.counters import Counters
from stratus.formats.entries import Row
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.rows import Raw

DEFAULT_TTL = 240  # seconds
_SCHEMAS = ("2.4", "2.5")
_TABLES = """
PRAGMA page_size = 1024;
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER,
    hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT,
    uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
    CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size),
    FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog (md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
INSERT INTO properties VALUES ('schema', '2.5'), ('schema_revision', '7'), ('revision', '0');
"""
_INDEX = "CREATE INDEX IF NOT EXISTS idx_catalog_parent ON catalog (parent_1, parent_2)"
_SCHEMA_REVISION = 7
_MAX_FREE_PAGES = 0.20  # upstream's limits for rewriting a catalog
_MAX_WASTED_ROWIDS = 0.25
# Absent in catalogs of lower schema revisions, which read as NULL.
_YOUNG_COLUMNS = ("xattr", "mtimens")
_NAME, _FLAGS, _LINKS = (rows.COLUMNS.index(name) for name in ("name", "flags", "hardlinks"))
_BOUND = ["CAST(? AS TEXT)" if name in ("name", "symlink") else "?" for name in rows.COLUMNS]
_AT_PATH = "md5path_1 = ? AND md5path_2 = ?"
_INSERT_ROW = f"INSERT INTO catalog ({', '.join(rows.COLUMNS)}) VALUES ({', '.join(_BOUND)})"
_KEYS = 4  # columns, the first ones, that the path decides
_SET = ", ".join(f"{name} = {bound}" for name, bound in zip(rows.COLUMNS[_KEYS:], _BOUND[_KEYS:], strict=True))
_UPDATE_ROW = f"UPDATE catalog SET {_SET} WHERE {_AT_PATH}"
_INSERT_CHUNK = "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?, ?, ?, ?, ?)"
_MOST_FRESH = 5000  # rows that are inserted at once


P = ParamSpec("P")
T = TypeVar("T")


def _reading(method: Callable[P, T]) -> Callable[P, T]:
    """What SQLite, or values of a type that does not belong there, raise in a damaged database becomes BadFormat."""

    @functools.wraps(method)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (sqlite3.Error, UnicodeError, ValueError, TypeError, AttributeError) as error:
            raise BadFormat(f"not a catalog, or a damaged one: {error}") from error

    return checked


class Nested(msgspec.Struct, frozen=True):
    """A reference to a catalog: where it is mounted, its digest, and the size of the SQLite file in bytes."""

    path: bytes
    digest: Digest
    size: int


class Catalog:
    """One catalog, read or edited in memory (or read from a local file).

    Paths are those of the repository even in nested catalogs. Counters follow every edit; ``pack`` gives the bytes.
    New rows are inserted many at once, so what is wrong with one of them may be found out only by ``flush``.
    Raises BadFormat where the database is not a catalog that the stock client would load.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._db.text_factory = bytes
        self._fresh: dict[bytes, Row] = {}  # not inserted yet
        self._fresh_raw: list[Raw] = []
        try:
            self._load()
        except BadFormat:
            database.close()
            raise

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the bytes of a SQLite file, for reading or editing."""
        if not data:
            raise BadFormat("an empty file is not a catalog")
        database = _connect(":memory:")
        try:
            database.deserialize(data)
        except sqlite3.Error as error:
            database.close()
            raise BadFormat(f"not a catalog: {error}") from error
        return cls(database)

    @classmethod
    def open(cls, file: Path) -> Self:
        """From a file that nobody changes, for reading."""
        return cls(_connect(f"file:{quote(str(file))}?mode=ro&immutable=1"))

    @classmethod
    def create(cls, root: Row, read: bool = True) -> Self:
        """A catalog with nothing but its own root; nested unless ``root`` is the repository's.

        ``read`` is false for one whose directories are not listed before it is packed: that takes a third less time.
        """
        database = _connect(":memory:")
        database.executescript(_TABLES)
        if read:
            database.execute(_INDEX)
        fresh = [(f"{scope}_{name}", 0) for scope in ("self", "subtree") for name in counters.NAMES]
        database.executemany("INSERT INTO statistics VALUES (?, ?)", fresh)
        if root.entry.path:
            database.execute("INSERT INTO properties VALUES ('root_prefix', CAST(? AS TEXT))", (root.entry.path,))
        catalog = cls(database)
        catalog.put(root)
        return catalog

    def upgraded(self) -> Self:
        """This catalog if it has the newest schema, else a copy of it that does; this one is closed then."""
        if self.get_property("schema") == _SCHEMAS[-1] and self.schema_revision >= _SCHEMA_REVISION:
            return self
        top = self.row(self.root_path)
        if top is None:
            raise BadFormat("a catalog without a row for its own root", path=self.root_path)
        copy = type(self).create(top)
        for row in self.walk(self.root_path):
            copy.put(row)
        for nested in self.nested():
            copy.set_nested(nested)
        for bound in self.bind_mountpoints():
            copy.set_bind_mountpoint(bound)
        copy.below = dict(self.below)
        for key, value in self._properties.items():
            if key not in ("schema", "schema_revision"):
                copy.set_property(key, value.decode("utf-8", "surrogateescape"))
        self.close()
        return copy

    @_reading
    def _load(self) -> None:
        self._properties = {
            key.decode(): value if isinstance(value, bytes) else str(value).encode()
            for key, value in self._db.execute("SELECT key, value FROM properties")
        }
        schema = self.get_property("schema")
        if schema not in _SCHEMAS:
            raise BadFormat(f"a catalog of schema {schema}", hint="only schemas 2.4 and 2.5 can be read")
        self.root_path = self._properties.get("root_prefix", b"")
        present = {column[1].decode() for column in self._db.execute("PRAGMA table_info(catalog)")}
        absent = {*rows.COLUMNS[:_KEYS], *(name for name in _YOUNG_COLUMNS if name not in present)}
        columns = ", ".join("NULL" if name in absent else name for name in rows.COLUMNS)
        self._select_row = f"SELECT {columns} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        self._select_rows = f"SELECT {columns} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"
        columns = ", ".join("NULL" if name in absent else name for name in rows.VALUES)
        self._select_values = f"SELECT {columns} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"
        self._select_all_values = f"SELECT parent_1, parent_2, {columns} FROM catalog"
        statistics = {name.decode(): value for name, value in self._db.execute("SELECT counter, value FROM statistics")}
        try:
            self._own: Counters = {name: statistics[f"self_{name}"] for name in counters.NAMES}
            self.below: Counters = {name: statistics[f"subtree_{name}"] for name in counters.NAMES}
        except KeyError as error:
            if self.schema_revision >= 5:
                raise BadFormat(f"a catalog without the counter {error}") from None
            self._own = {name: statistics.get(f"self_{name}", 0) for name in counters.NAMES}
            self.below = {name: statistics.get(f"subtree_{name}", 0) for name in counters.NAMES}

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- properties --------------------------------------------------------------------------------------------------

    def get_property(self, key: str) -> str | None:
        """A property's text; None if it is not set."""
        value = self._properties.get(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def set_property(self, key: str, value: str | int | None) -> None:
        """Sets a property; None takes it away."""
        if value is None:
            self._properties.pop(key, None)
            self._write("DELETE FROM properties WHERE key = ?", (key,))
        else:
            self._properties[key] = str(value).encode("utf-8", "surrogateescape")
            self._write("INSERT OR REPLACE INTO properties VALUES (?, CAST(? AS TEXT))", (key, self._properties[key]))

    def _number(self, key: str, default: int = 0) -> int:
        text = self.get_property(key)
        try:
            return default if text is None else int(text)
        except ValueError:
            raise BadFormat(f"a catalog whose {key} is {text!r}") from None

    @property
    def schema_revision(self) -> int:
        return self._number("schema_revision")

    @property
    def revision(self) -> int:
        return self._number("revision")

    @property
    def last_modified(self) -> int:
        """Unix time, seconds."""
        return self._number("last_modified")

    @property
    def ttl(self) -> int:
        """Seconds for which clients need not look for a new revision."""
        return self._number("TTL", DEFAULT_TTL)

    @property
    def previous(self) -> Digest | None:
        """The catalog that this one replaced; forty zeros mean none."""
        text = self.get_property("previous_revision")
        return None if not text or set(text[:40]) == {"0"} else Digest.parse(text)

    @property
    def own(self) -> Counters:
        """The counters of the catalog's own rows."""
        self.flush()
        return self._own

    # -- rows --------------------------------------------------------------------------------------------------------

    @_reading
    def row(self, path: bytes) -> Row | None:
        """The row at ``path``, if this catalog has it."""
        fresh = self._fresh.get(path)
        if fresh is not None:
            return fresh
        if self._fresh_raw:
            self.flush()
        found = self._db.execute(self._select_row, paths.md5_halves(path)).fetchone()
        return None if found is None else self._decode(path, found)

    @_reading
    def rows(self, parent: bytes) -> list[Row]:
        """The rows directly below ``parent``, sorted by name."""
        self.flush()
        found = self._db.execute(self._select_rows, paths.md5_halves(parent))
        return [
            self._decode(parent + b"/" + values[_NAME], values)
            for values in sorted(found, key=itemgetter(_NAME))
            if values[_NAME] or parent
        ]

    @_reading
    def values(self, parent: bytes) -> dict[bytes, tuple[Any, ...]]:
        """The values of ``rows.VALUES`` of the rows directly below ``parent``, by name."""
        self.flush()
        found = self._db.execute(self._select_values, paths.md5_halves(parent))
        return {values[_NAME - _KEYS]: values for values in found if values[_NAME - _KEYS] or parent}

    @_reading
    def all_values(self) -> dict[tuple[int, int], dict[bytes, tuple[Any, ...]]]:
        """As ``values``, of all directories by the two halves of their paths' MD5: a tenth of the time for each."""
        self.flush()
        found: dict[tuple[int, int], dict[bytes, tuple[Any, ...]]] = {}
        name = _NAME - _KEYS + 2
        for row in self._db.execute(self._select_all_values):
            directory = found.get(row[:2])
            if directory is None:
                directory = found[row[:2]] = {}
            if row[name]:  # the root itself has none
                directory[row[name]] = row[2:]
        return found

    @_reading
    def values_at(self, path: bytes) -> tuple[Any, ...] | None:
        """The values of ``rows.VALUES`` of the row at ``path``, if this catalog has it."""
        self.flush()
        values: tuple[Any, ...] | None = self._db.execute(self._select_row, paths.md5_halves(path)).fetchone()
        return None if values is None else values[_KEYS:]

    def walk(self, top: bytes | None = None) -> Iterator[Row]:
        """All rows below ``top`` (default: the catalog's root, whose row comes first), parents before children."""
        if top is None:
            top = self.root_path
            own = self.row(top)
            if own is not None:
                yield own
        for row in self.rows(top):
            yield row
            yield from self.walk(row.entry.path)

    @_reading
    def __len__(self) -> int:
        """How many rows."""
        self.flush()
        return int(self._db.execute("SELECT count(*) FROM catalog").fetchone()[0])

    @_reading
    def path_hashes(self) -> set[tuple[int, int]]:
        """The two halves of the MD5 of every row's path."""
        self.flush()
        return set(self._db.execute("SELECT md5path_1, md5path_2 FROM catalog"))

    @_reading
    def directories(self) -> dict[bytes, int]:
        """The directories in this catalog, its root and parents first, and how many other rows each has in it.

        The mountpoint of a nested catalog is such another row, no directory.
        """
        self.flush()
        plain = f"flags & {rows.DIRECTORY | rows.TRANSITIONS} = {rows.DIRECTORY}"
        below: dict[tuple[int, int], list[tuple[bytes, tuple[int, int]]]] = {}
        asked = f"SELECT parent_1, parent_2, name, md5path_1, md5path_2 FROM catalog WHERE {plain}"
        top = paths.md5_halves(self.root_path)
        for parent_1, parent_2, name, first, second in self._db.execute(asked):
            if name and (first, second) != top:  # or a damaged catalog could lead in circles
                below.setdefault((parent_1, parent_2), []).append((name, (first, second)))
        # The index alone answers this.
        counted = self._db.execute("SELECT parent_1, parent_2, count(*) FROM catalog GROUP BY parent_1, parent_2")
        rows_in = {(parent_1, parent_2): count for parent_1, parent_2, count in counted}
        found: dict[bytes, int] = {}
        waiting = [(self.root_path, top)]
        while waiting:
            path, at = waiting.pop()
            inner = below.get(at, [])
            found[path] = rows_in.get(at, 0) - len(inner)
            waiting += sorted(((path + b"/" + name, key) for name, key in inner), reverse=True)
        return found

    def put(self, row: Row) -> None:
        """Inserts the row, or replaces the one at its path."""
        old = self.row(row.entry.path)
        if old is None:
            self.insert(row)
        else:
            self.replace(old, row)

    def replace(self, old: Row, row: Row) -> None:
        """Puts a row in the place of ``old``, which is there at the same path."""
        if old.entry.path in self._fresh:
            self.insert(row)
            return
        values = rows.encode(row)
        self._write(_UPDATE_ROW, (*values[_KEYS:], *values[:2]))
        if old.entry.content and old.entry.content.chunks:
            self._write(f"DELETE FROM chunks WHERE {_AT_PATH}", values[:2])
        for chunk in _chunks([row]):
            self._write(_INSERT_CHUNK, chunk)
        counters.tally(self._own, old, -1)
        counters.tally(self._own, row)

    def insert(self, row: Row) -> None:
        """Inserts a row where there is none."""
        self._fresh[row.entry.path] = row
        if len(self._fresh) >= _MOST_FRESH:
            self.flush()

    def insert_raw(self, row: Raw) -> None:
        """Inserts a row where there is none; those of one directory are best one after another."""
        self._fresh_raw.append(row)
        if len(self._fresh_raw) >= _MOST_FRESH:
            self.flush()

    def flush(self) -> None:
        """Inserts the rows that wait for it. Raises Rejected where one cannot be written, or was there already."""
        if not self._fresh and not self._fresh_raw:
            return
        fresh, self._fresh = list(self._fresh.values()), {}
        fresh_raw, self._fresh_raw = self._fresh_raw, []
        try:
            self._write_many(_INSERT_ROW, rows.encode_all(fresh))
            self._write_many(_INSERT_CHUNK, _chunks(fresh))
            values = rows.complete_all(fresh_raw)
            self._write_many(_INSERT_ROW, values)
            chunks = [(*paths.md5_halves(path), *chunk) for path, _, chunks in fresh_raw for chunk in chunks]
            self._write_many(_INSERT_CHUNK, chunks)
        except sqlite3.IntegrityError as error:
            raise Rejected(f"two rows at one path: {error}", reason="duplicate", hint="put every path once") from error
        for row in fresh:
            counters.tally(self._own, row)
        counters.tally_values(self._own, values, len(chunks))

    def delete(self, path: bytes) -> Row | None:
        """Takes the row at ``path`` away, not what is below it; gives it back."""
        row = self.row(path)
        if row is not None and self._fresh.pop(path, None) is None:
            halves = paths.md5_halves(path)
            self._write(f"DELETE FROM catalog WHERE {_AT_PATH}", halves)
            if row.entry.content and row.entry.content.chunks:
                self._write(f"DELETE FROM chunks WHERE {_AT_PATH}", halves)
            counters.tally(self._own, row, -1)
        return row

    def delete_below(self, top: bytes) -> int:
        """Takes all rows below ``top`` away; says how many there were."""
        taken, _ = self._take(top)
        return len(taken)

    def move_below(self, top: bytes, target: Catalog, groups: int = 0) -> None:
        """Moves all rows below ``top`` to another catalog; numbers of hard-link groups grow by ``groups`` there."""
        taken, chunks = self._take(top)
        if groups:
            taken = [_regrouped(values, groups) for values in taken]
        target.flush()
        target._write_many(_INSERT_ROW, taken)
        target._write_many(_INSERT_CHUNK, chunks)
        counters.tally_values(target._own, taken, len(chunks))

    @_reading
    def _take(self, top: bytes) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Takes all rows below ``top`` away, and their chunks; gives the values of both."""
        self.flush()
        columns = ", ".join(rows.COLUMNS)
        taken: list[tuple[Any, ...]] = []
        waiting = [top]
        while waiting:
            parent = waiting.pop()
            query = f"SELECT {columns} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"
            for values in self._db.execute(query, paths.md5_halves(parent)).fetchall():
                if not values[_NAME]:  # the root, which is its own parent in no other way
                    continue
                taken.append(values)
                if values[_FLAGS] & rows.DIRECTORY:
                    waiting.append(parent + b"/" + values[_NAME])
        chunks = []
        for values in taken:
            if values[_FLAGS] & rows.CHUNKED:
                query = f"SELECT md5path_1, md5path_2, offset, size, hash FROM chunks WHERE {_AT_PATH} ORDER BY offset"
                chunks += self._db.execute(query, values[:2]).fetchall()
        self._write_many(f"DELETE FROM catalog WHERE {_AT_PATH}", [values[:2] for values in taken])
        self._write_many(f"DELETE FROM chunks WHERE {_AT_PATH}", sorted({chunk[:2] for chunk in chunks}))
        counters.tally_values(self._own, taken, len(chunks), -1)
        return taken, chunks

    def add_links(self, path: bytes, change: int) -> bool:
        """Adds to the link count of the row at ``path``; False if there is none."""
        fresh = self._fresh.get(path)
        if fresh is not None:
            self._fresh[path] = msgspec.structs.replace(fresh, links=fresh.links + change)
            return True
        statement = f"UPDATE catalog SET hardlinks = hardlinks + ? WHERE {_AT_PATH}"
        return bool(self._write(statement, (change, *paths.md5_halves(path))))

    def objects(self) -> Iterator[ObjectId]:
        """The objects that the rows name, files and chunks, those of external files not among them; some repeat."""
        self.flush()
        whole = self._db.execute(
            "SELECT hash, flags FROM catalog "
            f"WHERE hash IS NOT NULL AND flags & {rows.FILE} AND NOT flags & {rows.EXTERNAL}"
        )
        chunks = self._db.execute(
            "SELECT chunks.hash, flags FROM chunks JOIN catalog USING (md5path_1, md5path_2) "
            f"WHERE NOT flags & {rows.EXTERNAL}"
        )
        for found, suffix in ((whole, Suffix.DATA), (chunks, Suffix.PARTIAL)):
            for raw, flags in found:
                yield ObjectId(Digest(Algorithm.from_bits(flags >> rows.ALGORITHM_SHIFT & 7), raw), suffix)

    @_reading
    def last_group(self) -> int:
        """The highest number of a hard-link group; 0 without any."""
        self.flush()
        return int(self._db.execute("SELECT ifnull(max(hardlinks >> 32), 0) FROM catalog").fetchone()[0])

    @_reading
    def mend_groups(self, parent: bytes, groups: Collection[int]) -> None:
        """Makes the link counts of hard-link groups in one directory true; a group of one is no group."""
        self.flush()
        query = f"SELECT rowid, hardlinks FROM catalog WHERE parent_1 = ? AND parent_2 = ? AND hardlinks >= {1 << 32}"
        found = self._db.execute(query, paths.md5_halves(parent)).fetchall()
        members = Counter(hardlinks >> 32 for _, hardlinks in found)
        changed = []
        for rowid, hardlinks in found:
            group = hardlinks >> 32
            links = group << 32 | members[group] if members[group] > 1 else 1
            if group in groups and links != hardlinks:
                changed.append((links, rowid))
        self._write_many("UPDATE catalog SET hardlinks = ? WHERE rowid = ?", changed)

    def _decode(self, path: bytes, values: tuple[Any, ...]) -> Row:
        chunks: tuple[tuple[int, int, bytes], ...] = ()
        if values[_FLAGS] & rows.CHUNKED:
            query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"
            chunks = tuple(self._db.execute(query, paths.md5_halves(path)))
        return rows.decode(path, values, chunks)

    # -- references --------------------------------------------------------------------------------------------------

    def nested(self) -> list[Nested]:
        """The nested catalogs mounted in this one, sorted by path."""
        return self._references("nested_catalogs")

    def bind_mountpoints(self) -> list[Nested]:
        """Snapshots that are shown inside this catalog."""
        return self._references("bind_mountpoints") if self.schema_revision >= 4 else []

    @_reading
    def _references(self, table: str) -> list[Nested]:
        size = "size" if self.schema_revision >= 1 else "0"
        found = self._db.execute(f"SELECT path, sha1, {size} FROM {table}")
        return sorted((Nested(path, Digest.parse(sha1.decode()), size) for path, sha1, size in found), key=_by_path)

    def set_nested(self, nested: Nested) -> None:
        """Adds the reference, or replaces the one with its path."""
        self.remove_nested(nested.path)
        values = (nested.path, str(nested.digest), nested.size)
        self._write("INSERT INTO nested_catalogs VALUES (CAST(? AS TEXT), ?, ?)", values)
        self._own["nested"] += 1

    def set_bind_mountpoint(self, bound: Nested) -> None:
        """Adds the reference to a snapshot."""
        values = (bound.path, str(bound.digest), bound.size)
        self._write("INSERT OR REPLACE INTO bind_mountpoints VALUES (CAST(? AS TEXT), ?, ?)", values)

    def remove_nested(self, path: bytes) -> None:
        """Takes the reference away if there is one."""
        removed = self._write("DELETE FROM nested_catalogs WHERE path = CAST(? AS TEXT)", (path,))
        self._own["nested"] -= removed

    # -- bytes -------------------------------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """The bytes of the SQLite file, counters written, dense."""
        self.flush()
        for scope, counts in (("self", self._own), ("subtree", self.below)):
            for name in counters.NAMES:
                values = (f"{scope}_{name}", counts[name])
                self._write("INSERT OR REPLACE INTO statistics (counter, value) VALUES (?, ?)", values)
        self._write(_INDEX, ())
        self._commit()
        if self._is_sparse() or not self._is_root_first():
            self._make_dense()
        return self._db.serialize()

    def _is_sparse(self) -> bool:
        free, pages = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        last = self._db.execute("SELECT ifnull(max(rowid), 0) FROM catalog").fetchone()[0]
        used = counters.rows_of(self._own)
        return bool(free > _MAX_FREE_PAGES * pages or last - used > _MAX_WASTED_ROWIDS * last)

    def _is_root_first(self) -> bool:
        """The stock client derives the inode of the mount's root from the row id 1, whatever row has it."""
        halves = paths.md5_halves(self.root_path)
        found = self._db.execute("SELECT rowid FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", halves).fetchone()
        return found is None or found == (1,)

    def _make_dense(self) -> None:
        """Numbers the rows anew, the catalog's own root first, and leaves no free pages."""
        columns = [column[1].decode() for column in self._db.execute("PRAGMA table_info(catalog)")]
        order = "ORDER BY md5path_1 != ? OR md5path_2 != ?, rowid"
        self._db.execute(f"CREATE TEMP TABLE dense AS SELECT * FROM catalog {order}", paths.md5_halves(self.root_path))
        self._db.execute("DELETE FROM catalog")
        self._db.execute(f"INSERT INTO catalog ({', '.join(columns)}) SELECT * FROM dense ORDER BY rowid")
        self._db.execute("DROP TABLE dense")
        self._db.execute("VACUUM")

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        self._begin()
        return self._db.execute(statement, values).rowcount

    def _write_many(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        self._begin()
        self._db.executemany(statement, values)

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")


def _chunks(found: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """The chunk rows that belong to rows."""
    for row in found:
        content = row.entry.content
        if content is not None and content.chunks:
            halves = paths.md5_halves(row.entry.path)
            for chunk in content.chunks:
                yield (*halves, chunk.offset, chunk.size, chunk.digest.raw)


def _regrouped(values: tuple[Any, ...], more: int) -> tuple[Any, ...]:
    if values[_LINKS] < 1 << 32:
        return values
    return (*values[:_LINKS], values[_LINKS] + (more << 32), *values[_LINKS + 1 :])


def _by_path(nested: Nested) -> tuple[bytes, ...]:
    return paths.components(nested.path)


def _connect(name: str) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise BadFormat(f"cannot open a catalog: {error}") from error
    with contextlib.suppress(sqlite3.Error):
        database.execute("PRAGMA cache_size = -16384")
    return database
