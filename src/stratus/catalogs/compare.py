"""What differs between two trees. Sub trees whose catalogs are the same are not opened."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from stratus.catalogs.tree import CatalogTree
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Row, Transition


class Difference(msgspec.Struct, frozen=True):
    """A path at which two trees differ: ``before`` is None for what was added, ``after`` for what was removed."""

    path: bytes
    before: Entry | None
    after: Entry | None


def diff(old: CatalogTree, new: CatalogTree, path: bytes = b"") -> Iterator[Difference]:
    """All differences below ``path`` in depth-first order; link counts and hidden entries do not count."""
    if _same_catalog(old, new, path):
        return
    before = {row.entry.path: row for row in _listed(old, path)}
    after = {row.entry.path: row for row in _listed(new, path)}
    for child in sorted(before.keys() | after.keys()):
        one, other = before.get(child), after.get(child)
        if one is None or other is None or comparable(one) != comparable(other):
            yield Difference(child, one.entry if one else None, other.entry if other else None)
        directories = [row is not None and row.entry.kind is Kind.DIRECTORY for row in (one, other)]
        if all(directories):
            yield from diff(old, new, child)
        elif directories[0]:
            for row in old.walk(child):
                yield Difference(row.entry.path, row.entry, None)
        elif directories[1]:
            for row in new.walk(child):
                yield Difference(row.entry.path, None, row.entry)


def _listed(tree: CatalogTree, path: bytes) -> list[Row]:
    row = tree.row(path)
    if row is None or row.entry.kind is not Kind.DIRECTORY:
        return []
    return [row for row in tree.rows(path) if not row.hidden]


def _same_catalog(old: CatalogTree, new: CatalogTree, path: bytes) -> bool:
    """Whether ``path`` is the root of one and the same catalog in both trees, known without loading it."""
    if not path:
        return old.root.at.digest == new.root.at.digest
    references = []
    for tree in (old, new):
        row = tree.row(path)
        if row is None or row.transition is Transition.NONE:
            return False
        references.append(tree.catalog_of(paths.parent(path)).references.get(path))
    one, other = references
    return one is not None and other is not None and one.digest == other.digest


def comparable(row: Row) -> Entry:
    """What of a row counts as a difference."""
    # Numbers of hard-link groups are a catalog's own affair; that an entry has links, and its size as a directory, too.
    entry = row.entry
    return replace(entry, group=0, size=0 if entry.kind is Kind.DIRECTORY else entry.size)
