"""Where to cut a catalog that has become too large: pure arithmetic over its directories.

A directory's weight is the number of rows at and below it in the same catalog; a nested catalog weighs one. From the
bottom up, as long as a directory weighs more than half of the limit, its heaviest child becomes a catalog of its own,
unless no child has the least weight for that. Source: ``cvmfs/catalog_balancer_impl.h``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from stratus.formats import paths
from stratus.formats.entries import Kind, Row, Transition

AUTOMATIC_MARKER = b".cvmfsautocatalog"


@dataclass(frozen=True, slots=True)
class Weights:
    """Limits in rows: a catalog with more than ``most`` is cut, none with fewer than ``least`` is made or kept."""

    most: int = 50_000
    least: int = 1_000

    @classmethod
    def of(cls, most: int) -> Self:
        """The usual least weight for this limit: a thousand, or a tenth of a small limit."""
        return cls(most, max(2, min(1_000, most // 10)))


def cuts(top: bytes, rows: Iterable[Row], weights: Weights) -> list[bytes]:
    """The directories below ``top`` that shall be catalogs of their own, inner ones before outer ones.

    ``rows`` are all of one catalog.
    """
    weight: dict[bytes, int] = {}
    children: dict[bytes, list[bytes]] = {}
    order = []
    for row in rows:
        path = row.entry.path
        if path == top:
            continue
        parent = paths.parent(path)
        if row.entry.kind is Kind.DIRECTORY and row.transition is Transition.NONE:
            order.append(path)
            children.setdefault(parent, []).append(path)
            weight[path] = weight.get(path, 0) + 1
        else:
            weight[parent] = weight.get(parent, 0) + 1
    found = []
    for directory in [*sorted(order, key=lambda path: -path.count(b"/")), top]:
        own = weight.get(directory, 0) + (directory == top)
        below = sorted(children.get(directory, []), key=lambda path: (weight[path], path))
        own += sum(weight[child] for child in below)
        while own > weights.most // 2 and below and weight[below[-1]] >= weights.least:
            heaviest = below.pop()
            found.append(heaviest)
            own -= weight[heaviest] - 1
        weight[directory] = own
    return found
