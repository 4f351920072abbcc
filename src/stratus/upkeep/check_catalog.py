"""One catalog, from its bytes alone: the database, its properties, its rows, its references and its counters."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from stratus.catalogs.structure import MARKER
from stratus.errors import BadFormat
from stratus.formats import counters, paths, rows
from stratus.formats.catalog import Nested
from stratus.formats.compression import Compression
from stratus.formats.counters import Counters
from stratus.formats.entries import Transition
from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.upkeep.check_problems import Problem, Wanted
from stratus.upkeep.check_row import RawRow, about
from stratus.upkeep.check_rows import RowCheck

_MAGIC = b"SQLite format 3\0"
_WAL_BYTES = slice(18, 20)  # of the header: 2 and 2 in write-ahead mode, 1 and 1 with a rollback journal
_TABLES = {
    "properties": {"key", "value"},
    "catalog": set(rows.COLUMNS),
    "chunks": {"md5path_1", "md5path_2", "offset", "size", "hash"},
    "nested_catalogs": {"path", "sha1", "size"},
    "bind_mountpoints": {"path", "sha1", "size"},
    "statistics": {"counter", "value"},
}
# The schema revisions that brought a table or a column.
_SINCE = {"bind_mountpoints": 4, "nested_catalogs.size": 1, "catalog.xattr": 2, "catalog.mtimens": 7}
_ALL_COUNTERS_SINCE = 5
_NUMBER = re.compile(r"[0-9]{1,18}")
_NONE = "0" * 40
_TIME_MAX = (1 << 31) - 1  # the stock client reads 32 bits


@dataclass(frozen=True, slots=True)
class Examined:
    """What a catalog turned out to be.

    Attributes:
        own: its counters, recomputed from its rows; None if some rows could not be counted.
        below: the counters of all below it, as it claims; those that are missing are not in it.
        nested: references to nested catalogs that can be followed.
        all_nested: whether these are all that there are.
        mountpoints: their rows, by path.
        rows: how many were reached.
    """

    properties: dict[str, str]
    own: Counters | None
    below: dict[str, int]
    nested: list[Nested]
    all_nested: bool
    mountpoints: dict[bytes, RawRow]
    rows: int

    def number(self, key: str, default: int = 0) -> int:
        """A property that is a number."""
        text = self.properties.get(key, "")
        return int(text) if _NUMBER.fullmatch(text) else default


def check_catalog(
    data: bytes, path: bytes, mountpoint: RawRow | None = None
) -> Generator[Problem | Wanted, None, Examined | None]:
    """A catalog that is mounted at ``path``, where its parent has the row ``mountpoint`` (None: the root catalog).

    Gives None where the database cannot be read as a catalog at all.
    """
    if data.startswith(_MAGIC) and b"\2" in data[_WAL_BYTES]:
        yield about("wal_mode", path, "the catalog is in write-ahead mode, which stock clients cannot open")
        data = data[: _WAL_BYTES.start] + b"\1\1" + data[_WAL_BYTES.stop :]
    if not data.startswith(_MAGIC):
        yield about("bad_catalog", path, "the catalog is not a SQLite database")
        return None
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.text_factory = bytes
        try:
            database.deserialize(data)
            # Not the quick one: clients find rows by the indexes, which that does not compare with the table.
            verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0].decode(errors="replace")
            if verdict != "ok":
                yield about("bad_catalog", path, f"the catalog is damaged: {verdict}")
            return (yield from _Check(database, path, mountpoint).run())
        except (sqlite3.Error, UnicodeError) as error:  # the latter for what SQLite says about damaged text
            yield about("bad_catalog", path, f"the catalog cannot be read: {error}")
            return None


class _Check:
    def __init__(self, database: sqlite3.Connection, path: bytes, mountpoint: RawRow | None) -> None:
        self._db = database
        self._path = path
        self._mountpoint = mountpoint
        self._properties: dict[str, str] = {}
        self._columns: dict[str, set[str]] = {}

    def run(self) -> Generator[Problem | Wanted, None, Examined | None]:
        readable = yield from self._schema()
        if not readable:
            return None
        yield from self._check_properties()
        checker = RowCheck(self._db, self._path, self._schema_revision, self._columns["catalog"])
        yield from checker.run()
        root = checker.find(self._path)
        if self._mountpoint is not None and root is not None:
            yield from self._transition(root, self._mountpoint)
        if not self._path and root is not None:
            yield from self._check_root_id()
        if self._path and not checker.has_marker:
            yield about("missing_marker", self._path, f"the nested catalog has no {MARKER.decode()} in its root")
        nested = yield from self._references("nested_catalogs", Transition.MOUNTPOINT, checker)
        bound = yield from self._references("bind_mountpoints", Transition.BIND, checker)
        for both in sorted({n.path for n in nested} & {b.path for b in bound}):
            yield about("nested_and_bind", both, "a nested catalog and a snapshot at once")
        for snapshot in bound:
            object_id = ObjectId(snapshot.digest, Suffix.CATALOG)
            yield Wanted(object_id, Compression.ZLIB, snapshot.size or None, snapshot.path)
        nested_count = self._db.execute("SELECT count(*) FROM nested_catalogs").fetchone()[0]
        own = {**checker.own, "nested": nested_count} if checker.is_whole else None
        below = yield from self._counters(own)
        return Examined(
            properties=self._properties,
            own=own,
            below=below,
            nested=nested,
            all_nested=len(nested) == nested_count == sum(map(_is_mountpoint, checker.mountpoints.values())),
            mountpoints=checker.mountpoints,
            rows=checker.count,
        )

    @property
    def _schema_revision(self) -> int:
        text = self._properties.get("schema_revision", "")
        return int(text) if _NUMBER.fullmatch(text) else 0

    # -- schema and properties ---------------------------------------------------------------------------------------

    def _schema(self) -> Generator[Problem, None, bool]:
        """Tables, columns, index and version; gives whether the rest can be read."""
        odd = self._db.execute("SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')").fetchall()
        for kind, name in odd:  # a view may go on for ever
            yield about("bad_schema", self._path, f"the catalog has a {_text(kind)}, named {_text(name)}")
        if odd:
            return False
        for table in _TABLES:
            found = self._db.execute(f"PRAGMA table_info({table})")
            self._columns[table] = {row[1].decode() for row in found}
        if _TABLES["properties"] <= self._columns["properties"]:
            found = self._db.execute("SELECT key, value FROM properties WHERE key IS NOT NULL AND value IS NOT NULL")
            self._properties = {_text(key): _text(value) for key, value in found}
        schema = self._properties.get("schema")
        if schema not in ("2.4", "2.5"):
            yield about("bad_schema", self._path, f"the catalog is of schema {schema}, clients take 2.4 and 2.5")
        if self._db.execute("PRAGMA encoding").fetchone()[0] != b"UTF-8":
            yield about("bad_schema", self._path, "the catalog's text is not in UTF-8")
        readable = True
        for table, columns in _TABLES.items():
            for lacking in sorted(columns - self._columns[table]):
                since = _SINCE.get(table, _SINCE.get(f"{table}.{lacking}", 0))
                if since <= self._schema_revision:
                    yield about("bad_schema", self._path, f"the catalog has no column {lacking} in a table {table}")
                readable = readable and since > 0
        if readable and not self._has_parent_index():
            yield about("bad_schema", self._path, "the catalog has no index over the parents of its rows")
            self._db.execute("CREATE INDEX check_parent ON catalog (parent_1, parent_2)")
        return readable

    def _has_parent_index(self) -> bool:
        for index in self._db.execute("PRAGMA index_list(catalog)").fetchall():
            columns = [row[2] for row in self._db.execute(f"PRAGMA index_info({_quoted(index[1])})")]
            if columns[:2] == [b"parent_1", b"parent_2"]:
                return True
        return False

    def _check_properties(self) -> Iterator[Problem]:
        properties = self._properties
        for key in ("revision", "last_modified", "schema_revision"):
            if not _NUMBER.fullmatch(properties.get(key, "")):
                yield about("bad_property", self._path, f"the property {key} is {properties.get(key)!r}, no number")
        last_modified = properties.get("last_modified", "")
        if _NUMBER.fullmatch(last_modified) and int(last_modified) > _TIME_MAX:
            yield about("bad_property", self._path, f"last_modified {last_modified} does not fit into 32 bits")
        if "TTL" in properties and not _NUMBER.fullmatch(properties["TTL"]):
            yield about("bad_property", self._path, f"the property TTL is {properties['TTL']!r}, no number")
        previous = properties.get("previous_revision", _NONE)
        if not previous.startswith(_NONE) and not _is_digest(previous):
            yield about("bad_property", self._path, f"the property previous_revision is {previous!r}, no hash")
        prefix = properties.get("root_prefix", "").encode("utf-8", "surrogateescape")
        if prefix != self._path:
            what = f"the catalog says that its root is {paths.display(prefix)}"
            yield about("wrong_root_prefix", self._path, what)

    # -- what the parent says ----------------------------------------------------------------------------------------

    def _check_root_id(self) -> Iterator[Problem]:
        halves = paths.md5_halves(self._path)
        query = "SELECT rowid FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        if self._db.execute(query, halves).fetchall() != [(1,)]:
            yield about(
                "wrong_root_id", self._path, "the root is not the row with id 1, which the stock client takes for it"
            )

    def _transition(self, root: RawRow, mountpoint: RawRow) -> Iterator[Problem]:
        differing = [
            name for name in rows.COLUMNS if name != "flags" and getattr(root, name) != getattr(mountpoint, name)
        ]
        if _is_hidden(root) != _is_hidden(mountpoint):
            differing.append("flags")
        if differing:
            what = f"{', '.join(differing)} of the catalog's root are not those of its mountpoint"
            yield about("transition_mismatch", self._path, what)

    # -- references --------------------------------------------------------------------------------------------------

    def _references(self, table: str, place: Transition, checker: RowCheck) -> Generator[Problem, None, list[Nested]]:
        """The references in a table that can be followed, by path."""
        if not self._columns[table]:
            return []
        size = "size" if "size" in self._columns[table] else "0"
        found = []
        registered: set[object] = set()
        for values in self._db.execute(f"SELECT path, sha1, {size} FROM {table} ORDER BY path"):
            path, digest, file_size = values
            registered.add(path)
            if None in values:
                yield about("null_value", self._path, f"{table} has a NULL in the row of {path!r}")
                continue
            if not isinstance(path, bytes) or not path.startswith(self._path + b"/"):
                yield about("bad_reference", self._path, f"{table} has {path!r}, which is not inside of the catalog")
                continue
            if path not in checker.mountpoints:
                yield about("missing_mountpoint", path, f"is in {table}, but has no row that says so")
            try:
                nested = Nested(path, Digest.parse(_text(digest)), file_size)
            except BadFormat as error:
                yield about("bad_reference", path, f"in {table}, {error.message}")
                continue
            if not isinstance(file_size, int) or file_size < 0:
                yield about("bad_reference", path, f"in {table}, with the size {file_size!r}")
                continue
            found.append(nested)
        for path, row in checker.mountpoints.items():
            if row.flags & place.value and path not in registered:
                yield about("unregistered_mountpoint", path, f"is a mountpoint that is not in {table}")
        return found

    # -- counters ----------------------------------------------------------------------------------------------------

    def _counters(self, own: Counters | None) -> Generator[Problem, None, dict[str, int]]:
        """Compares the catalog's own counters; gives those of all below it, as they are claimed."""
        claimed = {_text(name): value for name, value in self._db.execute("SELECT counter, value FROM statistics")}
        for scope in ("self", "subtree"):
            for name in counters.NAMES:
                value = claimed.get(f"{scope}_{name}")
                if value is None and self._schema_revision < _ALL_COUNTERS_SINCE:
                    continue
                if not isinstance(value, int):
                    yield about("missing_counter", self._path, f"the counter {scope}_{name} is {value!r}")
                elif scope == "self" and own is not None and value != own[name]:
                    yield about("wrong_counter", self._path, f"self_{name} is {value}, the rows say {own[name]}")
        return {name: value for name in counters.NAMES if isinstance(value := claimed.get(f"subtree_{name}"), int)}


def _is_mountpoint(row: RawRow) -> bool:
    return bool(row.flags & Transition.MOUNTPOINT.value)


def _is_hidden(row: RawRow) -> bool:
    return isinstance(row.flags, int) and bool(row.flags & rows.HIDDEN)


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except BadFormat:
        return False
    return True


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _quoted(name: bytes) -> str:
    return '"' + name.decode().replace('"', '""') + '"'
