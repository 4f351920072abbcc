"""Sub trees that are new as a whole become catalogs here, so that a commit need not look at their entries."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from stratus.catalogs.balance import Weights
from stratus.catalogs.build import build_rows
from stratus.catalogs.structure import EMPTY
from stratus.catalogs.workbench import StoredCatalog
from stratus.formats import paths
from stratus.formats.changes import Attach
from stratus.formats.dirtab import Dirtab
from stratus.formats.hashes import ObjectId
from stratus.formats.rows import Raw
from stratus.ingest.contract import Delivery, NewObject, Policy, Warn
from stratus.repository.revision import Revision
from stratus.writers.comparing import read_rules
from stratus.writers.gathered import Gathered
from stratus.writers.recorded import Objects

_WORTHWHILE = 500  # entries; fewer are committed as fast one by one
_OF_LIMIT = 10  # a catalog that nobody asked for has at least this part of the limit
_STORED_AT_ONCE = 16  # catalogs, and
_BYTES_AT_ONCE = 16 << 20


class NewCatalogs:
    """Builds catalogs of what was gathered, and stores them.

    A directory that has a marker becomes a catalog anyway. One that has none gets one, as balancing would do it, if a
    catalog of its own makes sense for what is in it.
    """

    def __init__(
        self,
        base: Revision,
        gathered: Gathered,
        policy: Policy,
        delivery: Delivery,
        named: Objects,
        warn: Warn,
        has_own_rules: bool,
    ) -> None:
        """``named`` are all objects that must be there; ``has_own_rules`` if the dirtab itself may change."""
        self._base = base
        self._gathered = gathered
        self._algorithm = policy.algorithm
        self._delivery = delivery
        self._named = named
        self._warn = warn
        weight = policy.catalog_weight
        self._weights = Weights.of(weight) if weight else None
        self._least = max(self._weights.least, weight // _OF_LIMIT) if self._weights else None
        self._least_marked = min(_WORTHWHILE, self._least or _WORTHWHILE)
        self._has_own_rules = has_own_rules
        self._sizes: dict[bytes, int] | None = None
        self._rules: Dirtab | None = None
        self._waiting: list[NewObject] = []
        self._waiting_bytes = 0
        self._has_empty = False

    def wants(self, directory: bytes) -> bool:
        """Whether the entries at and below are enough."""
        if self._sizes is None:
            self._sizes = {} if self._has_own_rules else _sizes(self._gathered.counts)
            if max(self._sizes.values(), default=0) >= self._least_marked:
                self._rules = read_rules(self._base)
        least = self._least_marked if directory in self._gathered.marked else self._least
        return least is not None and self._sizes.get(directory, 0) >= least

    def make(self, directory: bytes, owner: tuple[int, int] | None) -> Attach:
        """The catalogs go to the store. Raises Rejected, StoreError."""
        timestamp = max(int(time.time()), self._base.tree.root.catalog.last_modified)
        found = _Rows(self._gathered, directory)
        self._named.note(found)
        built = build_rows(found, directory, self._algorithm, timestamp, self._weights, self._rules, owner, self._keep)
        if built.marked and not self._has_empty:
            self._has_empty = True
            self._store(NewObject(ObjectId(self._algorithm.digest(EMPTY)), EMPTY, 0))
        self._flush()
        for warning in built.warnings:
            self._warn(warning)
        return built.attach

    def _keep(self, catalog: StoredCatalog) -> None:
        self._store(NewObject(catalog.id, catalog.stored, catalog.size))

    def _store(self, one: NewObject) -> None:
        self._named.add(one.id)
        self._waiting.append(one)
        self._waiting_bytes += len(one.stored)
        if len(self._waiting) >= _STORED_AT_ONCE or self._waiting_bytes >= _BYTES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._delivery.keep(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0


class _Rows(msgspec.Struct, frozen=True):
    """The rows at and below a directory, each time anew."""

    gathered: Gathered
    top: bytes

    def __iter__(self) -> Iterator[Raw]:
        return self.gathered.rows(self.top)


def _sizes(counts: dict[bytes, int]) -> dict[bytes, int]:
    """How many entries there are below each directory."""
    sizes: dict[bytes, int] = {}
    for directory, count in counts.items():
        sizes[directory] = sizes.get(directory, 0) + count
        while directory:
            directory = paths.parent(directory)
            sizes[directory] = sizes.get(directory, 0) + count
    return sizes
