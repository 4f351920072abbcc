"""Trees that are deep, wide, or both."""

from __future__ import annotations

import pytest

from stratus.catalogs.balance import Weights
from stratus.formats import paths
from stratus.formats.changes import Put, Remove
from stratus.formats.entries import Row
from tests.catalogs.workshop import Workshop, file, marker


def test_a_hundred_levels_each_its_own_catalog() -> None:
    workshop = Workshop()
    levels = [paths.join([b"d"] * depth) for depth in range(1, 101)]
    workshop.edit([Put(entry) for level in levels for entry in (marker(level), file(level + b"/f"))])
    assert workshop.nested() == set(levels)
    workshop.verify()
    workshop.edit([Put(file(levels[-1] + b"/g"))])
    assert len(workshop.last) == 101
    workshop.edit([Remove(levels[50] + b"/.cvmfscatalog")])
    assert len(workshop.nested()) == 99
    workshop.verify()


def test_catalogs_stay_dense_and_small_whatever_comes_and_goes() -> None:
    workshop = Workshop()
    many = [Put(file(b"/d/%05d" % number)) for number in range(3000)]
    workshop.edit(many)
    large = workshop.root.size
    workshop.edit([Remove(b"/d/%05d" % number) for number in range(2900)])
    assert workshop.root.size < large / 10
    with workshop.open(workshop.root) as catalog:
        last, used = catalog._db.execute("SELECT max(rowid), count(*) FROM catalog").fetchone()
        (free,) = catalog._db.execute("PRAGMA freelist_count").fetchone()
    assert (last, free) == (used, 0)
    workshop.verify()


@pytest.mark.soak
def test_a_million_entries_in_one_directory() -> None:
    workshop = Workshop()
    counts = workshop.edit((Put(file(b"/flat/%07d" % number)) for number in range(1_000_000)), weights=Weights())
    assert counts.added == 1_000_001
    assert len(workshop.made.warnings) == 1
    tree = workshop.tree()
    assert len(tree.rows(b"/flat")) == 1_000_002
    row = tree.row(b"/flat/0777777")
    assert isinstance(row, Row)
    tree.close()
    counts = workshop.edit([Remove(b"/flat/0777777"), Put(file(b"/flat/extra"))], weights=Weights())
    assert (counts.added, counts.removed) == (1, 1)


@pytest.mark.soak
def test_a_million_entries_in_many_directories_are_cut_into_catalogs() -> None:
    workshop = Workshop()
    changes = (Put(file(b"/%02d/%03d/%03d" % (n // 10_000, n // 100 % 100, n % 100))) for n in range(1_000_000))
    workshop.edit(changes, weights=Weights())
    tree = workshop.tree()
    sizes = [len(tree.catalog_of(path).catalog) for path in workshop.nested() | {b""}]
    tree.close()
    assert max(sizes) <= 50_000
    assert sum(sizes) > 1_000_000
    workshop.verify()
