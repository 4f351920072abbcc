"""Whether two trees are the same below a path, found out by a flow."""

from __future__ import annotations

from stratus.catalogs.compare import comparable
from stratus.catalogs.workbench import LoadCatalog
from stratus.formats import paths
from stratus.formats.catalog import Catalog
from stratus.stores.flows import Flow


def same_below(path: bytes, old: Catalog, new: Catalog, load: LoadCatalog) -> Flow[bool]:
    """Whether two trees, given by their root catalogs, are the same below ``path``; equal catalogs are not opened.

    Another structure of catalogs counts as a difference.
    """
    one = yield from _holder(path, old, load)
    other = yield from _holder(path, new, load)
    return (yield from _same(path, one, other, load))


def _holder(path: bytes, catalog: Catalog, load: LoadCatalog) -> Flow[Catalog]:
    while True:
        inner = [nested for nested in catalog.nested() if paths.contains(nested.path, path)]
        if not inner:
            return catalog
        catalog = yield from load(inner[0])


def _same(path: bytes, old: Catalog, new: Catalog, load: LoadCatalog) -> Flow[bool]:
    if [comparable(row) for row in old.walk(path)] != [comparable(row) for row in new.walk(path)]:
        return False
    before, after = (
        [nested for nested in catalog.nested() if paths.contains(path, nested.path)] for catalog in (old, new)
    )
    if [nested.path for nested in before] != [nested.path for nested in after]:
        return False
    for one, other in zip(before, after, strict=True):
        if one.path == path or one.digest == other.digest:
            continue
        inner_old = yield from load(one)
        inner_new = yield from load(other)
        if not (yield from _same(one.path, inner_old, inner_new, load)):
            return False
    return True
