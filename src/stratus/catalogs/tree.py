"""A revision's whole tree, read from its catalogs; each is loaded when a path first needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from stratus.formats import paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.entries import Kind, Row

Load = Callable[[Nested], Catalog]
"""Gives the catalog of a reference, verified against its digest. Called from any thread. Raises StratusError."""


class Mounted(msgspec.Struct, frozen=True):
    """A catalog at its place in the tree.

    Attributes:
        at: where it is mounted, its digest and its size; for a snapshot that is bind-mounted, the path differs from
            the one that the catalog's own rows have.
    """

    at: Nested
    catalog: Catalog
    references: dict[bytes, Nested]  # by path in the tree, nested and bind-mounted catalogs

    @property
    def path(self) -> bytes:
        return self.at.path

    def row(self, path: bytes) -> Row | None:
        """The catalog's own row at a path of the tree."""
        row = self.catalog.row(self._inwards(path))
        return None if row is None else self._outwards(row)

    def rows(self, path: bytes) -> list[Row]:
        """The catalog's rows right below a path of the tree, sorted by name."""
        return [self._outwards(row) for row in self.catalog.rows(self._inwards(path))]

    def values(self, path: bytes) -> dict[bytes, tuple[Any, ...]]:
        """The values (``rows.VALUES``) of the catalog's rows right below a path of the tree, by name."""
        return self.catalog.values(self._inwards(path))

    def values_at(self, path: bytes) -> tuple[Any, ...] | None:
        """The values (``rows.VALUES``) of the catalog's own row at a path of the tree."""
        return self.catalog.values_at(self._inwards(path))

    def key(self, path: bytes) -> tuple[int, int]:
        """By what the catalog knows a path of the tree: see ``Catalog.all_values``."""
        return paths.md5_halves(self._inwards(path))

    def _inwards(self, path: bytes) -> bytes:
        return self.catalog.root_path + path[len(self.at.path) :]

    def _outwards(self, row: Row) -> Row:
        if self.at.path == self.catalog.root_path:
            return row
        path = self.at.path + row.entry.path[len(self.catalog.root_path) :]
        return replace(row, entry=replace(row.entry, path=path))


def mount(at: Nested, catalog: Catalog) -> Mounted:
    """The catalog at its place, with its references moved along."""
    references = {}
    for reference in [*catalog.nested(), *catalog.bind_mountpoints()]:
        path = at.path + reference.path[len(catalog.root_path) :]
        references[path] = replace(reference, path=path)
    return Mounted(at, catalog, references)


class CatalogTree:
    """An immutable tree below one root catalog; thread-safe."""

    def __init__(self, root: Nested, load: Load) -> None:
        """Loads the root catalog only. Raises what ``load`` raises."""
        self._load = load
        self._lock = threading.Lock()
        self.root = mount(root, load(root))
        self._mounted = {root.path: self.root}

    @property
    def loaded(self) -> int:
        """How many catalogs have been loaded so far."""
        return len(self._mounted)

    @property
    def catalogs(self) -> list[Catalog]:
        """The catalogs that have been loaded so far, in the order of loading."""
        return [mounted.catalog for mounted in self._mounted.values()]

    def close(self) -> None:
        """Closes all catalogs; nothing can be read any more."""
        for mounted in self._mounted.values():
            mounted.catalog.close()

    def release(self, path: bytes) -> None:
        """Closes the nested catalog at ``path``, if it was loaded; nobody may be reading it. It can be loaded again."""
        if not path or path not in self._mounted:
            return
        with self._lock:
            mounted = self._mounted.pop(path, None)
        if mounted is not None:
            mounted.catalog.close()

    def row(self, path: bytes) -> Row | None:
        """The row at ``path``, ``b""`` for the root; that of a mountpoint is the one in the parent catalog."""
        return self.catalog_of(paths.parent(path)).row(path) if path else self.root.row(path)

    def rows(self, path: bytes) -> list[Row]:
        """The rows right below a directory, sorted by name, hidden ones included."""
        return self.catalog_of(path).rows(path)

    def ready(self, path: bytes) -> bool:
        """Whether ``row(path)`` and ``rows(path)`` answer without loading a catalog."""
        current = self.root
        while True:
            reference = _reference(current, path)
            if reference is None:
                return True
            known = self._mounted.get(reference.path)
            if known is None:
                return False
            current = known

    def catalog_of(self, directory: bytes) -> Mounted:
        """The catalog that has the rows below ``directory``, with all on the way loaded."""
        current = self.root
        while True:
            reference = _reference(current, directory)
            if reference is None:
                return current
            current = self._mounted.get(reference.path) or self._mount(reference)

    def _mount(self, reference: Nested) -> Mounted:
        fresh = mount(reference, self._load(reference))
        with self._lock:
            mounted = self._mounted.setdefault(reference.path, fresh)
        if mounted is not fresh:  # another thread was faster
            fresh.catalog.close()
        return mounted

    def walk(self, path: bytes = b"", prune: Callable[[Row], bool] | None = None) -> Iterator[Row]:
        """All rows below ``path`` in depth-first order, without hidden ones; ``prune`` says where not to descend."""
        for row in self.rows(path):
            if row.hidden:
                continue
            yield row
            if row.entry.kind is Kind.DIRECTORY and not (prune and prune(row)):
                yield from self.walk(row.entry.path, prune)


def _reference(mounted: Mounted, directory: bytes) -> Nested | None:
    """The reference below which ``directory`` lies, if it is not in this catalog itself."""
    if not mounted.references:
        return None
    end = len(mounted.path)
    while end < len(directory):
        end = directory.find(b"/", end + 1)
        end = len(directory) if end < 0 else end
        found = mounted.references.get(directory[:end])
        if found is not None:
            return found
    return None
