"""Where to cut a catalog that has become too large: pure arithmetic over its directories.

A directory's weight is the number of rows at and below it in the same catalog; a nested catalog weighs one. From the
bottom up, as long as a directory weighs more than half of the limit, its heaviest child becomes a catalog of its own,
unless no child has the least weight for that. Source: ``cvmfs/catalog_balancer_impl.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from stratus.formats import paths

AUTOMATIC_MARKER = b".cvmfsautocatalog"


class Weights(msgspec.Struct, frozen=True):
    """Limits in rows: a catalog with more than ``most`` is cut, none with fewer than ``least`` is made or kept."""

    most: int = 50_000
    least: int = 1_000

    @classmethod
    def of(cls, most: int) -> Self:
        """The usual least weight for this limit: a thousand, or a tenth of a small limit."""
        return cls(most, max(2, min(1_000, most // 10)))


def cuts(top: bytes, directories: Mapping[bytes, int], weights: Weights) -> list[bytes]:
    """The directories below ``top`` that shall be catalogs of their own, inner ones before outer ones.

    ``directories`` are all of one catalog, ``top`` and parents first, each with the number of rows right in it that
    are no directories of this catalog.
    """
    children: dict[bytes, list[bytes]] = {}
    for path in directories:
        if path != top:
            children.setdefault(paths.parent(path), []).append(path)
    weight: dict[bytes, int] = {}
    found = []
    for directory in sorted(directories, key=_depth, reverse=True):
        below = children.get(directory, [])
        own = 1 + directories[directory] + sum([weight[child] for child in below])
        if own > weights.most // 2:
            heavy = sorted((weight[child], child) for child in below if weight[child] >= weights.least)
            while own > weights.most // 2 and heavy:
                heaviest, child = heavy.pop()
                found.append(child)
                own -= heaviest - 1
        weight[directory] = own
    return found


def _depth(path: bytes) -> int:
    return path.count(b"/") if path else -1
