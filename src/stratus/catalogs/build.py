"""Catalogs of a sub tree that is new as a whole: built in one go, to be attached instead of edited in.

Two passes over the entries: the first decides where nested catalogs are, the second writes them branch by branch, so
that only the catalogs on the way to the present directory are in memory. What comes out is what the edit engine makes
of the same entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from stratus.catalogs.balance import AUTOMATIC_MARKER, Weights, cuts
from stratus.catalogs.structure import MARKER, Made, check_marker, implied, marker, too_large
from stratus.catalogs.workbench import NO_CATALOG, StoredCatalog, store_catalog
from stratus.errors import Rejected
from stratus.formats import counters, paths, rows
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Attach
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Row, Transition
from stratus.formats.hashes import Algorithm
from stratus.formats.rows import DIRECTORY_TYPE, GROUP_SHIFT, LINKS, MODE, NAME, TYPE_MASK, Raw, Values

_FIRST_REVISION = 1
_UID = rows.VALUES.index("uid")  # the group's id is behind it
_BOTH_MARKERS = (MARKER, AUTOMATIC_MARKER)


class Built(msgspec.Struct, frozen=True):
    """A sub tree that is ready to be stored and attached.

    Attributes:
        catalogs: the deepest first; the last one is what ``attach`` names; none if they were handed on.
        marked: markers were added, so the empty object must be in the store.
        warnings: what could not be done.
    """

    catalogs: list[StoredCatalog]
    attach: Attach
    marked: bool
    warnings: tuple[str, ...]


def build(
    entries: Iterable[Entry],
    top: bytes,
    algorithm: Algorithm,
    timestamp: int,
    weights: Weights | None = None,
    rules: Dirtab | None = None,
    owner: tuple[int, int] | None = None,
    keep: Callable[[StoredCatalog], None] | None = None,
) -> Built:
    """As ``build_rows``, of entries."""
    return build_rows(_Rows(entries), top, algorithm, timestamp, weights, rules, owner, keep)


class _Rows(msgspec.Struct, frozen=True):
    entries: Iterable[Entry]

    def __iter__(self) -> Iterator[Raw]:
        return (rows.raw(Row(entry)) for entry in self.entries)


def build_rows(
    found: Iterable[Raw],
    top: bytes,
    algorithm: Algorithm,
    timestamp: int,
    weights: Weights | None = None,
    rules: Dirtab | None = None,
    owner: tuple[int, int] | None = None,
    keep: Callable[[StoredCatalog], None] | None = None,
) -> Built:
    """The catalogs of all that is at and below ``top``, which becomes a nested catalog even without a marker.

    ``found`` are iterated twice and sorted by components; directories that they do not name are made as the edit
    engine makes them, for ``owner`` or that of the first entry below. ``timestamp`` is that of the revision, Unix time
    in seconds. ``keep`` is handed each catalog once it is ready, so that they are not all held. Raises Rejected for
    what is no tree.
    """
    made = Made(algorithm, timestamp * 1_000_000_000)
    plan = _Plan(top)
    missing: dict[bytes, list[Raw]] = {}
    for row in _whole(found, top, owner, made.mtime_ns, missing):
        plan.add(row)
    if top not in plan.subdirectories:
        raise Rejected(f"nothing is to be attached at {paths.display(top)}", reason="bad_attach", path=top)
    plan.decide(weights, rules, made.warnings)
    building = _Building(plan, made, timestamp, keep)
    for row in found:
        for directory in missing.get(row[0], ()):
            building.add(directory)
        building.add(row)
    return building.finish()


def _whole(
    found: Iterable[Raw], top: bytes, owner: tuple[int, int] | None, mtime_ns: int, missing: dict[bytes, list[Raw]]
) -> Iterator[Raw]:
    """The rows and the directories that they imply, every branch in one piece. Raises Rejected.

    The directories are noted as ``missing``, by the path of the row that they come before.
    """
    made: set[bytes] = set()  # directories
    over: set[bytes] = set()  # directories that were left
    way: list[bytes] = []  # directories from the top to where we are
    last: bytes | None = None
    for row in found:
        path, values, _ = row
        if path == last:
            raise _unsorted(path)
        last = path
        parent = path[: path.rfind(b"/")]
        if path != top and (not way or way[-1] != parent):
            while way and not paths.contains(way[-1], parent):
                over.add(way.pop())
            for directory in _missing(way, parent, top, path):
                if directory in over:
                    raise _unsorted(path)
                if directory not in made:
                    made.add(directory)
                    row_of_directory = rows.raw(Row(implied(directory, owner or _owner(values), mtime_ns)))
                    missing.setdefault(path, []).append(row_of_directory)
                    yield row_of_directory
                way.append(directory)
        if values[MODE] & TYPE_MASK == DIRECTORY_TYPE:
            if path in made:
                raise _unsorted(path)
            made.add(path)
        elif path == top:
            raise Rejected(f"{paths.display(path)} is no directory", reason="bad_attach", path=path)
        yield row


def _owner(values: Values) -> tuple[int, int]:
    return values[_UID], values[_UID + 1]


def _missing(way: list[bytes], directory: bytes, top: bytes, path: bytes) -> list[bytes]:
    """The directories that lead from the end of the way to ``directory``."""
    if not top or not paths.contains(top, directory):
        raise Rejected(f"{paths.display(path)} is not below {paths.display(top)}", reason="bad_attach", path=path)
    end = way[-1] if way else paths.parent(top)
    missing = []
    while directory != end:
        missing.append(directory)
        directory = paths.parent(directory)
    return missing[::-1]


def _unsorted(path: bytes) -> Rejected:
    return Rejected(
        f"{paths.display(path)} is not where it belongs", reason="not_sorted", hint="sort by components", path=path
    )


class _Plan:
    """What the first pass finds out, and where nested catalogs shall be.

    Attributes:
        subdirectories: how many every directory has; parents come before children.
        others: how many entries in a directory are no directories.
        members: the sizes of hard-link groups, by directory and number.
        nested: the directories that are catalogs.
        added: the markers that directories get.
        left_out: the paths of markers that go.
    """

    def __init__(self, top: bytes) -> None:
        self.top = top
        self.subdirectories: dict[bytes, int] = {}
        self.others: Counter[bytes] = Counter()
        self.members: Counter[tuple[bytes, int]] = Counter()
        self.nested: set[bytes] = set()
        self.added: dict[bytes, tuple[bytes, ...]] = {}
        self.left_out: set[bytes] = set()
        self._automatic: set[bytes] = set()  # directories with a marker of balancing

    def add(self, row: Raw) -> None:
        path, values, _ = row
        directory = path[: path.rfind(b"/")]
        if path.endswith(_BOTH_MARKERS):
            self._note_marker(row, directory)
        if values[MODE] & TYPE_MASK == DIRECTORY_TYPE:
            self.subdirectories[path] = 0
            if path != self.top:
                self.subdirectories[directory] += 1
            return
        self.others[directory] += 1
        if values[LINKS] >> GROUP_SHIFT:
            self.members[directory, values[LINKS] >> GROUP_SHIFT] += 1

    def _note_marker(self, row: Raw, directory: bytes) -> None:
        name = row[1][NAME]
        if name == MARKER:
            check_marker(rows.read(row).entry)
            self.nested.add(directory)
        elif name == AUTOMATIC_MARKER:
            self._automatic.add(directory)

    def decide(self, weights: Weights | None, rules: Dirtab | None, warnings: list[str]) -> None:
        """Marks what the dirtab wants marked, then merges and cuts as balancing does."""
        if rules is not None:
            for directory in self.subdirectories.keys() - self.nested:
                if rules.matches(directory):
                    self.nested.add(directory)
                    self._mark(directory, MARKER)
        if self.top not in self.nested:
            self.nested.add(self.top)
            self._mark_automatic(self.top)
        if weights is None:
            return
        self._merge(weights)
        looked_at = []
        for path, directories in self._catalogs().items():
            if _rows(directories) > weights.most:
                found = cuts(path, directories, weights)
                looked_at += [path, *found]
                for directory in found:
                    self.nested.add(directory)
                    self._mark_automatic(directory)
        catalogs = self._catalogs()
        counted = {path: _rows(catalogs[path]) for path in looked_at}
        warnings += [too_large(path, count) for path, count in counted.items() if count > weights.most]

    @property
    def made(self) -> int:
        """How many entries more there are than were asked for."""
        return sum(map(len, self.added.values())) - len(self.left_out)

    def _mark_automatic(self, directory: bytes) -> None:
        self._mark(directory, *(_BOTH_MARKERS[: 1 if directory in self._automatic else 2]))

    def _mark(self, directory: bytes, *names: bytes) -> None:
        self.added[directory] = names
        self.others[directory] += len(names)

    def _merge(self, weights: Weights) -> None:
        """Automatic catalogs that are too small are none."""
        counted = {path: _rows(directories) for path, directories in self._catalogs().items()}
        homes = self._homes()
        for path in sorted(self.nested & self._automatic, key=lambda path: (-path.count(b"/"), path)):
            if path != self.top and counted[path] < weights.least:
                self.nested.remove(path)
                self.others[path] -= 2
                self.left_out |= {path + b"/" + name for name in _BOTH_MARKERS}
                counted[homes[paths.parent(path)]] += counted[path] - 3  # markers, and the root that is one row now

    def _homes(self) -> dict[bytes, bytes]:
        """The catalog that has what is in a directory, for each of them."""
        homes: dict[bytes, bytes] = {}
        for path in self.subdirectories:
            homes[path] = path if path in self.nested else homes[paths.parent(path)]
        return homes

    def _catalogs(self) -> dict[bytes, dict[bytes, int]]:
        """By catalog, its directories as ``cuts`` wants them."""
        catalogs: dict[bytes, dict[bytes, int]] = {}
        homes = self._homes()
        for path, home in homes.items():
            catalogs.setdefault(home, {})[path] = self.others[path]
            if home == path != self.top:  # its mountpoint is a row of the catalog around it
                parent = paths.parent(path)
                catalogs[homes[parent]][parent] += 1
        return catalogs


def _rows(directories: dict[bytes, int]) -> int:
    return len(directories) + sum(directories.values())


class _Open(msgspec.Struct):
    """A catalog that is being written."""

    catalog: Catalog
    row: Row  # its root
    inside: bytes  # what all paths in it begin with
    groups: int = 0  # hard-link groups so far


class _Building:
    """The second pass."""

    def __init__(self, plan: _Plan, made: Made, timestamp: int, keep: Callable[[StoredCatalog], None] | None) -> None:
        self._plan = plan
        self._keep = keep
        self._made = made
        self._timestamp = timestamp
        self._way: list[_Open] = []  # catalogs from the top to where we are
        self._numbers: dict[tuple[bytes, int], int] = {}  # of hard-link groups
        self._stored: list[StoredCatalog] = []

    def add(self, row: Raw) -> None:
        path, values, chunks = row
        while self._way and not path.startswith(self._way[-1].inside):
            self._close()
        if values[MODE] & TYPE_MASK == DIRECTORY_TYPE:
            self._add_directory(path, values)
        elif path not in self._plan.left_out:
            here = self._way[-1]
            if values[LINKS] >> GROUP_SHIFT:
                row = path, (self._links(path, values[LINKS] >> GROUP_SHIFT, here), *values[1:]), chunks
            here.catalog.insert_raw(row)

    def _add_directory(self, path: bytes, values: Values) -> None:
        plain = path, (2 + self._plan.subdirectories[path], *values[1:]), ()
        if path not in self._plan.nested:
            self._way[-1].catalog.insert_raw(plain)
            return
        row = rows.read(plain)
        if self._way:
            self._way[-1].catalog.insert(replace(row, transition=Transition.MOUNTPOINT))
        catalog = Catalog.create(replace(row, transition=Transition.ROOT), read=False)
        for name in self._plan.added.get(path, ()):
            catalog.insert(Row(marker(row.entry, name, self._made)))
        self._way.append(_Open(catalog, row, path + b"/"))

    def _links(self, path: bytes, group: int, here: _Open) -> int:
        """The link count and the group of a hard link, as a row has it."""
        key = paths.parent(path), group
        members = self._plan.members[key]
        if members == 1:
            return 1
        if key not in self._numbers:
            here.groups += 1
            self._numbers[key] = here.groups
        return self._numbers[key] << GROUP_SHIFT | members

    def _close(self) -> Attach:
        """The innermost catalog is complete; gives what would attach it."""
        this = self._way.pop()
        with this.catalog as catalog:
            catalog.set_property("revision", _FIRST_REVISION)
            catalog.set_property("previous_revision", NO_CATALOG)
            catalog.set_property("last_modified", self._timestamp)
            stored = store_catalog(catalog.root_path, catalog, self._made.algorithm)
            total = counters.total(catalog.own, catalog.below)
        if self._keep is None:
            self._stored.append(stored)
        else:
            self._keep(stored)
        if self._way:
            parent = self._way[-1].catalog
            parent.set_nested(Nested(stored.path, stored.id.digest, stored.size))
            counters.add(parent.below, total)
        return Attach(this.row.entry, this.row.links, stored.id.digest, stored.size, total, self._plan.made)

    def finish(self) -> Built:
        while len(self._way) > 1:
            self._close()
        attach = self._close()
        self._stored.sort(key=lambda stored: -stored.path.count(b"/"))
        return Built(self._stored, attach, bool(self._plan.added), tuple(self._made.warnings))
