"""What has to change for a tree to hold what was gathered: one pass over both, sorted by components.

The tree's rows are compared as they are in its catalogs; what is equal, nearly always all of it, is never decoded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import msgspec
from msgspec.structs import replace

from stratus.catalogs.balance import AUTOMATIC_MARKER
from stratus.catalogs.structure import MARKER
from stratus.errors import BadFormat
from stratus.formats import dirtab, paths, rows
from stratus.formats.changes import Attach
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Kind
from stratus.formats.rows import DIRECTORY_TYPE, FLAGS, GROUP_SHIFT, LINKS, MODE, NAME, TYPE_MASK, Chunks, Raw, Values
from stratus.repository.revision import Revision
from stratus.writers.base_rows import BaseRows
from stratus.writers.gathered import Gathered

_LOOKED_UP = 3  # entries of a directory; for more of them it is listed

Record = tuple[bytes, tuple[Values, Chunks] | Attach | None]
"""A path, and the row that is put there, or what is attached; None where all that is there is removed."""


class Attaching(Protocol):
    """Makes catalogs of sub trees that are new."""

    def wants(self, directory: bytes) -> bool:
        """Whether what is at and below a directory shall be attached."""

    def make(self, directory: bytes, owner: tuple[int, int] | None) -> Attach:
        """Stores the catalogs; ``owner`` is that of directories that nobody named. Raises Rejected, StoreError."""


class _Place(msgspec.Struct):
    """A directory on the way to where we are.

    Attributes:
        exists: whether the base has it as a directory.
        listed: what the base has in it, by name; None if it was not listed yet.
        surplus: names in the base that are still to be looked at, the last one first.
    """

    path: bytes
    exists: bool
    listed: dict[bytes, Values] | None = None
    surplus: list[bytes] | None = None


class Comparison:
    """The records that make the base hold what was gathered, in their order."""

    def __init__(
        self, base: Revision, gathered: Gathered, path: bytes, replace_all: bool, attaching: Attaching
    ) -> None:
        self._base = base
        self._rows = BaseRows(base.tree)
        self._gathered = gathered
        self._path = path
        self._replace = replace_all
        self._attaching = attaching
        self._groups = gathered.groups()
        self._way = [_Place(b"", True)]
        self._covered: bytes | None = None  # what is below this is attached
        self._owner: tuple[int, int] | None = None
        self._rules: Dirtab | None = None
        self._has_rules = False

    def records(self, found: Iterator[Raw]) -> Iterator[Record]:
        """Of the rows that were gathered, in their order; each is taken from ``found`` once."""
        if self._replace and not self._path:
            self._look_for_surplus(self._way[0])
        is_empty = True
        for path, values, chunks in found:
            is_empty = False
            if self._is_covered(path):
                continue
            place = self._way[-1]
            directory = path[: path.rfind(b"/")]
            if directory != place.path:
                yield from self._go(directory)
                if self._is_covered(path):
                    continue
                place = self._way[-1]
            listed = place.listed
            if (
                listed
                and not place.surplus
                and not chunks
                and values[LINKS] == 1
                and listed.get(values[NAME]) == values
            ):
                continue
            yield from self._compare(place, path, values, chunks)
        if is_empty and self._replace:
            yield from self._go(self._path)
        while self._way:
            yield from self._leave()

    def _is_covered(self, path: bytes) -> bool:
        return self._covered is not None and path.startswith(self._covered)

    # -- the way -----------------------------------------------------------------------------------------------------

    def _go(self, directory: bytes) -> Iterator[Record]:
        """Makes ``directory`` the end of the way, or what is attached on the way there."""
        while not paths.contains(self._way[-1].path, directory):
            yield from self._leave()
        while self._way[-1].path != directory:
            here = self._way[-1]
            end = directory.find(b"/", len(here.path) + 1)
            path = directory if end < 0 else directory[:end]
            yield from self._pass(here, path)
            old = self._lookup(here, path)
            if old is None and self._wants(path):
                yield path, self._attach(path)
                return
            self._enter(path, old is not None and old[MODE] & TYPE_MASK == DIRECTORY_TYPE)

    def _enter(self, path: bytes, exists: bool) -> None:
        place = _Place(path, exists)
        self._way.append(place)
        if self._replace and exists and paths.contains(self._path, path):
            self._look_for_surplus(place)

    def _leave(self) -> Iterator[Record]:
        place = self._way.pop()
        while place.surplus:
            yield place.path + b"/" + place.surplus.pop(), None
        self._rows.release(place.path)  # what is below was compared; of many catalogs few fit into memory

    def _look_for_surplus(self, place: _Place) -> None:
        listed = self._list(place)
        structure: set[bytes] = set()
        if AUTOMATIC_MARKER in listed or (MARKER in listed and self._matches(place.path)):
            structure = {MARKER, AUTOMATIC_MARKER}
        place.surplus = sorted(
            (name for name, values in listed.items() if name not in structure and not values[FLAGS] & rows.HIDDEN),
            reverse=True,
        )

    def _matches(self, directory: bytes) -> bool:
        """Whether the base's dirtab has put a marker there."""
        if not self._has_rules:
            self._has_rules = True
            self._rules = read_rules(self._base)
        return self._rules is not None and self._rules.matches(directory)

    def _pass(self, place: _Place, path: bytes) -> Iterator[Record]:
        """What the base has in a directory before ``path``, and nobody named, goes."""
        surplus = place.surplus
        if surplus:
            name = path[len(place.path) + 1 :]
            while surplus and surplus[-1] < name:
                yield place.path + b"/" + surplus.pop(), None
            if surplus and surplus[-1] == name:
                surplus.pop()

    # -- looking at the base -----------------------------------------------------------------------------------------

    def _list(self, place: _Place) -> dict[bytes, Values]:
        if place.listed is None:
            place.listed = self._rows.below(place.path) if place.exists else {}
        return place.listed

    def _lookup(self, place: _Place, path: bytes) -> Values | None:
        if not place.exists:
            return None
        if place.listed is None and self._gathered.counts.get(place.path, 0) < _LOOKED_UP:
            return self._rows.at(path)
        return self._list(place).get(path[len(place.path) + 1 :])

    # -- one row -----------------------------------------------------------------------------------------------------

    def _compare(self, place: _Place, path: bytes, values: Values, chunks: Chunks) -> Iterator[Record]:
        if place.surplus:
            yield from self._pass(place, path)
        old = self._lookup(place, path)
        kind = values[MODE] & TYPE_MASK
        if old is not None and old[MODE] & TYPE_MASK != kind:
            yield path, None
            old = None
        is_same = old is not None and self._is_same(place, path, old, values, chunks)
        if path == self._path and not is_same:
            self._owner = values[-3], values[-2]
        if kind == DIRECTORY_TYPE and old is None and self._wants(path):
            yield path, self._attach(path)
            return
        if kind == DIRECTORY_TYPE and old is not None and self._replace:
            self._enter(path, True)  # even if nothing is below it
        if not is_same:
            yield path, (values, chunks)

    def _is_same(self, place: _Place, path: bytes, old: Values, values: Values, chunks: Chunks) -> bool:
        """Whether nothing has to be done; numbers of hard-link groups and sizes of directories do not matter."""
        if old == values and values[LINKS] == 1 and not chunks:
            return True
        if values[MODE] & TYPE_MASK == DIRECTORY_TYPE and (
            old[MODE:FLAGS] == values[MODE:FLAGS] and old[NAME:] == values[NAME:]
        ):
            return True
        there = self._base.lookup(path)
        if there is None or _comparable(there) != _comparable(rows.read((path, values, chunks)).entry):
            return False
        group = values[LINKS] >> GROUP_SHIFT
        if not there.group and not group:
            return True
        name = path[len(place.path) + 1 :]
        members = {
            known
            for known, row in self._list(place).items()
            if there.group and row[LINKS] >> GROUP_SHIFT == there.group and not row[FLAGS] & rows.HIDDEN
        }
        return (members or {name}) == self._groups.get((place.path, group), {name})

    def _wants(self, path: bytes) -> bool:
        """Whether this new directory is to be attached."""
        return paths.contains(self._path, path) and self._attaching.wants(path)

    def _attach(self, path: bytes) -> Attach:
        self._covered = path + b"/"
        return self._attaching.make(path, self._owner)


def _comparable(one: Entry) -> Entry:
    return replace(one, group=0, size=0 if one.kind is Kind.DIRECTORY else one.size)


def read_rules(base: Revision) -> Dirtab | None:
    """The base's dirtab; None if it has none, or one that cannot be understood."""
    found = base.lookup(dirtab.PATH)
    if found is not None:
        with contextlib.suppress(BadFormat):
            return Dirtab.parse(base.read(found))
    return None
