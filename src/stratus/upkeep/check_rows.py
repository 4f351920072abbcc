"""The rows of one catalog together: each is reached from the root, stands for one path, and has the right links."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Generator, Iterator

from stratus.catalogs.structure import MARKER
from stratus.formats import counters, paths, rows
from stratus.formats.entries import Kind, Transition
from stratus.upkeep.check_problems import Code, Problem, Wanted
from stratus.upkeep.check_row import TRANSITIONS, Chunks, RawRow, about, check_row

_MOUNTED = Transition.MOUNTPOINT.value | Transition.BIND.value
_TYPES = {
    "hash": ("blob", "null"),
    "xattr": ("blob", "null"),
    "mtimens": ("integer", "null"),
    "name": ("text",),
    "symlink": ("text",),
}  # of SQLite; all other columns are integers
_COUNTED_AS = {Kind.DIRECTORY: "dir", Kind.SYMLINK: "symlink", Kind.FILE: "regular"}  # all others are special


class RowCheck:
    """Walks the rows of one catalog from its root, and tallies them.

    Attributes:
        own: the twelve counters but ``nested``, as the rows have them.
        is_whole: whether all rows could be counted.
        mountpoints: the rows that say that a nested catalog or a snapshot is mounted there, by path.
        has_marker: whether the root of a nested catalog has the marker.
    """

    def __init__(self, database: sqlite3.Connection, top: bytes, schema_revision: int, columns: set[str]) -> None:
        """``database`` gives text as bytes; columns of the table that are not in ``columns`` are read as NULL."""
        self._db = database
        self._top = top
        self._schema_revision = schema_revision
        self._select = ", ".join(name if name in columns else f"NULL AS {name}" for name in rows.COLUMNS)
        self._typed = [name for name in rows.COLUMNS if name in columns]
        self._visited = array("q")  # rowids
        self._faulty: dict[int, list[tuple[Code, str]]] = {}  # rows that cannot be judged, by rowid
        self._groups: dict[int, bytes] = {}  # of hard links: the directory
        self.own = counters.zero()
        self.is_whole = True
        self.mountpoints: dict[bytes, RawRow] = {}
        self.has_marker = False

    @property
    def count(self) -> int:
        """How many rows were reached."""
        return len(self._visited)

    def run(self) -> Iterator[Problem | Wanted]:
        """All problems of rows and chunks, and the objects that they need."""
        self._find_faulty_types()
        root = self.find(self._top)
        if root is None:
            self.is_whole = False
            yield about("bad_root_row", self._top, "the catalog has no row for its root")
        else:
            yield from self._root(root)
        waiting: list[tuple[bytes, RawRow | None]] = [(self._top, root)]
        while waiting:
            below = yield from self._directory(*waiting.pop())
            waiting += reversed(below)
        yield from self._unreachable()
        yield from self._orphan_chunks()

    def find(self, path: bytes) -> RawRow | None:
        """The row whose path hash is that of ``path``."""
        return next(self._rows("WHERE md5path_1 = ? AND md5path_2 = ?", paths.md5_halves(path)), None)

    def _rows(self, clause: str, values: tuple[int, int]) -> Iterator[RawRow]:
        return map(RawRow._make, self._db.execute(f"SELECT rowid, {self._select} FROM catalog {clause}", values))

    def _find_faulty_types(self) -> None:
        allowed = {name: _TYPES.get(name, ("integer",)) for name in self._typed}
        wrong = [f"typeof({name}) NOT IN ({', '.join(map(repr, kinds))})" for name, kinds in allowed.items()]
        kinds = ", ".join(f"typeof({name})" for name in self._typed)
        for rowid, *found in self._db.execute(f"SELECT rowid, {kinds} FROM catalog WHERE {' OR '.join(wrong)}"):
            self._faulty[rowid] = [
                ("null_value", f"{name} is NULL") if kind == b"null" else ("bad_type", f"{name} is a {kind.decode()}")
                for name, kind in zip(self._typed, found, strict=True)
                if kind.decode() not in allowed[name]
            ]

    # -- walking -----------------------------------------------------------------------------------------------------

    def _root(self, row: RawRow) -> Iterator[Problem | Wanted]:
        top = self._top
        self._visited.append(row.rowid)
        if row.rowid in self._faulty:
            yield from self._report_faulty(top, row)
            return
        if row.kind is not Kind.DIRECTORY:
            yield about("bad_root_row", top, f"the root of the catalog has mode {row.mode:o}, which is no directory's")
        if row.flags & TRANSITIONS != (Transition.ROOT.value if top else 0):
            yield about("bad_root_row", top, f"flags {row.flags} are not those of the root of this catalog")
        if row.name != paths.name(top):
            yield about("bad_name", top, f"the root's row is named {row.name!r}")
        parent = paths.md5_halves(paths.parent(top)) if top else (0, 0)
        if (row.parent_1, row.parent_2) != parent:
            yield about("wrong_path_hash", top, "the hash of the parent's path is wrong")
        yield from self._judge(top, row)

    def _directory(
        self, path: bytes, row: RawRow | None
    ) -> Generator[Problem | Wanted, None, list[tuple[bytes, RawRow | None]]]:
        """The rows right below a directory whose own row is ``row``; gives the directories among them."""
        is_judged = row is not None and row.rowid not in self._faulty
        is_mounted = row is not None and is_judged and bool(row.flags & _MOUNTED)
        directories: list[tuple[bytes, RawRow | None]] = []
        groups: dict[int, list[RawRow]] = {}
        previous: bytes | None = None
        for below in self._rows("WHERE parent_1 = ? AND parent_2 = ? ORDER BY name", paths.md5_halves(path)):
            if row is not None and below.rowid == row.rowid:
                continue  # a root that claims to be its own parent
            self._visited.append(below.rowid)
            has_name = isinstance(below.name, bytes)
            child = path + b"/" + (below.name if has_name else b"?")
            if below.rowid in self._faulty:
                yield from self._report_faulty(child, below)
            if not has_name:
                self.is_whole = False
                continue
            if is_mounted:
                yield about("row_below_mountpoint", child, "lies below a mountpoint, in the parent's catalog")
            has_place = yield from self._name(child, below, previous)
            previous = below.name
            if not has_place:
                self.is_whole = False
                continue
            is_sound = below.rowid not in self._faulty
            if is_sound:
                yield from self._place(child, below)
                yield from self._judge(child, below)
            if isinstance(below.mode, int) and below.kind is Kind.DIRECTORY:
                directories.append((child, below))
            elif is_sound and (below.group or below.links > 1):
                groups.setdefault(below.group, []).append(below)
        links = len(directories) + 2
        # Below a mountpoint's own row there is nothing to be counted.
        if row is not None and is_judged and not is_mounted and row.links != links:
            yield about("wrong_link_count", path, f"has link count {row.links}, {links} is right")
        yield from self._link_groups(path, groups)
        return directories

    def _report_faulty(self, path: bytes, row: RawRow) -> Iterator[Problem]:
        self.is_whole = False
        for code, what in self._faulty[row.rowid]:
            yield about(code, path, f"{what} (row {row.rowid})")

    def _name(self, path: bytes, row: RawRow, previous: bytes | None) -> Generator[Problem, None, bool]:
        """The name and the path hash; gives whether the row stands for a path of its own."""
        name = row.name
        if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
            yield about("bad_name", path, f"{name!r} is not a name (row {row.rowid})")
            return False
        if name == previous:
            yield about("duplicate_name", path, f"there are several rows of this name (row {row.rowid})")
            return False
        if len(name) > paths.NAME_MAX:
            yield about("name_too_long", path, f"the name has {len(name)} bytes")
        if (row.md5path_1, row.md5path_2) != paths.md5_halves(path):
            yield about("wrong_path_hash", path, "the row's hash is not that of its path")
        return True

    def _place(self, path: bytes, row: RawRow) -> Iterator[Problem]:
        """What a row that is not the catalog's root may be in the structure of catalogs."""
        place = row.flags & TRANSITIONS
        if place & Transition.ROOT.value or place == _MOUNTED:
            yield about("bad_transition", path, f"flags {row.flags} contradict each other or the row's place")
        if place & _MOUNTED:
            self.mountpoints[path] = row
        if row.name == MARKER:
            if self._top and paths.parent(path) == self._top and row.kind is Kind.FILE:
                self.has_marker = True
            else:
                yield about("stray_marker", path, "a marker where no nested catalog begins")

    def _judge(self, path: bytes, row: RawRow) -> Iterator[Problem | Wanted]:
        chunks = self._chunks(row)
        self._count(row, len(chunks))
        return check_row(path, row, chunks, self._schema_revision)

    def _count(self, row: RawRow, chunks: int) -> None:
        own, kind = self.own, row.kind
        if kind is None:
            self.is_whole = False
            return
        own["xattr"] += row.xattr is not None
        own[_COUNTED_AS.get(kind, "special")] += 1
        if kind is Kind.FILE:
            own["file_size"] += row.size
            if row.is_chunked:
                own["chunked"] += 1
                own["chunked_size"] += row.size
                own["chunks"] += chunks
            if row.is_external:
                own["external"] += 1
                own["external_file_size"] += row.size

    def _unreachable(self) -> Iterator[Problem]:
        total = self._db.execute("SELECT count(*) FROM catalog").fetchone()[0]
        if total == len(self._visited):
            return
        self.is_whole = False
        visited = set(self._visited)
        for rowid, name in self._db.execute("SELECT rowid, name FROM catalog"):
            if rowid not in visited:
                yield about("unreachable_row", self._top, f"row {rowid}, named {name!r}, is in no directory")

    # -- chunks ------------------------------------------------------------------------------------------------------

    def _chunks(self, row: RawRow) -> Chunks:
        if not row.is_chunked or row.kind is not Kind.FILE:
            return []
        query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset, size"
        return self._db.execute(query, (row.md5path_1, row.md5path_2)).fetchall()

    def _orphan_chunks(self) -> Iterator[Problem]:
        query = (
            "SELECT catalog.name, count(*) FROM chunks LEFT JOIN catalog USING (md5path_1, md5path_2) "
            f"WHERE catalog.flags IS NULL OR NOT catalog.flags & {rows.CHUNKED} GROUP BY md5path_1, md5path_2"
        )
        for name, count in self._db.execute(query):
            whose = "no row" if name is None else f"the row named {name!r}, which is not chunked"
            yield about("orphan_chunks", self._top, f"{count} chunks belong to {whose}")

    # -- hard links --------------------------------------------------------------------------------------------------

    def _link_groups(self, directory: bytes, groups: dict[int, list[RawRow]]) -> Iterator[Problem]:
        for group, members in groups.items():
            path = directory + b"/" + members[0].name
            if not group:
                for row in members:
                    what = f"has {row.links} links, but is in no group of hard links"
                    yield about("bad_link_group", directory + b"/" + row.name, what)
                continue
            if self._groups.setdefault(group, directory) != directory:
                other = paths.display(self._groups[group])
                yield about("bad_link_group", path, f"its group of hard links, {group}, is also in {other}")
            if any(row.links != len(members) for row in members):
                links = sorted({row.links for row in members})
                what = f"its group of hard links has {len(members)} members, with link counts {links}"
                yield about("wrong_link_count", path, what)
            if len({self._inode(row) for row in members}) > 1:
                names = ", ".join(repr(row.name) for row in members[:3])
                yield about("bad_link_group", path, f"members of its group of hard links differ: {names}")

    def _inode(self, row: RawRow) -> tuple[object, ...]:
        """What all names of one file share: everything but path, name and link count, and the chunks."""
        own = row._replace(rowid=0, md5path_1=0, md5path_2=0, name=b"", hardlinks=0)
        return (*own, *self._chunks(row))
