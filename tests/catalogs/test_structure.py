from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.catalogs.balance import AUTOMATIC_MARKER, Weights, cuts
from stratus.catalogs.structure import MARKER
from stratus.formats import paths
from stratus.formats.changes import Change, Put, Remove
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry
from tests.catalogs.workshop import Workshop, directory, file

SMALL = Weights(most=20, least=5)


def files(top: bytes, count: int) -> list[Change]:
    return [Put(file(top + b"/f%03d" % number)) for number in range(count)]


def rows_of(workshop: Workshop) -> dict[bytes, int]:
    """How many rows each catalog has."""
    tree = workshop.tree()
    sizes = {path: len(tree.catalog_of(path).catalog) for path in workshop.nested() | {b""}}
    tree.close()
    return sizes


# -- balancing


def test_a_catalog_that_is_too_large_is_cut_at_its_heaviest_directories() -> None:
    workshop = Workshop()
    workshop.edit([*files(b"/a", 12), *files(b"/b", 9), *files(b"/c", 2)], weights=SMALL)
    assert workshop.nested() == {b"/a", b"/b"}
    marked = workshop.rows()
    assert {b"/a/" + MARKER, b"/a/" + AUTOMATIC_MARKER} <= marked.keys()
    assert rows_of(workshop)[b""] <= SMALL.most // 2
    workshop.verify()


def test_deep_trees_are_cut_at_several_levels() -> None:
    workshop = Workshop()
    changes = [change for n in range(4) for m in range(3) for change in files(b"/top/%d/%d" % (n, m), 9)]
    workshop.edit(changes, weights=SMALL)
    assert all(rows <= SMALL.most for rows in rows_of(workshop).values())
    workshop.verify()


def test_one_flat_directory_stays_whole_with_a_warning() -> None:
    workshop = Workshop()
    workshop.edit(files(b"/flat", 50), weights=SMALL)
    assert workshop.nested() == {b"/flat"}
    assert workshop.made.warnings == ["the catalog of /flat has 53 rows: no directory in it can be cut off"]
    workshop.edit(files(b"/flat", 51), weights=SMALL)
    assert workshop.made.warnings == ["the catalog of /flat has 54 rows: no directory in it can be cut off"]


def test_an_automatic_catalog_that_shrinks_is_merged_back() -> None:
    workshop = Workshop()
    workshop.edit([*files(b"/a", 15), *files(b"/b", 9)], weights=SMALL)
    assert b"/a" in workshop.nested()
    workshop.edit([Remove(b"/a/f%03d" % number) for number in range(14)], weights=SMALL)
    assert b"/a" not in workshop.nested()
    assert not [path for path in workshop.rows() if path.startswith(b"/a/.")]
    workshop.verify()


def test_a_catalog_that_somebody_asked_for_stays_however_small() -> None:
    workshop = Workshop()
    workshop.edit([Put(file(b"/a/" + MARKER)), Put(file(b"/a/x"))], weights=SMALL)
    workshop.edit([Remove(b"/a/x")], weights=SMALL)
    assert workshop.nested() == {b"/a"}


def test_without_limits_nothing_is_cut() -> None:
    workshop = Workshop()
    workshop.edit(files(b"/a", 50))
    assert workshop.nested() == set()


def test_cuts_come_inner_ones_first() -> None:
    assert cuts(b"", {b"": 0, b"/a": 12, b"/a/b": 12}, SMALL) == [b"/a/b", b"/a"]
    assert cuts(b"", {b"": 12, b"/a": 6}, SMALL) == [b"/a"]
    assert cuts(b"", {b"": 2, b"/a": 6}, SMALL) == []


# -- the dirtab


def test_new_directories_that_match_become_catalogs() -> None:
    workshop = Workshop()
    rules = Dirtab.parse(b"/sw/*\n!/sw/tmp\n")
    workshop.edit([Put(file(b"/sw/one/f")), Put(file(b"/sw/tmp/f")), Put(file(b"/sw/two/d/f"))], dirtab=rules)
    assert workshop.nested() == {b"/sw/one", b"/sw/two"}
    workshop.verify()


def test_only_touched_directories_are_looked_at() -> None:
    workshop = Workshop()
    workshop.edit([Put(file(b"/sw/old/f"))])
    workshop.edit([Put(file(b"/sw/new/f"))], dirtab=Dirtab.parse(b"/sw/*"))
    assert workshop.nested() == {b"/sw/new"}


def test_a_dirtab_that_changes_is_applied_to_the_whole_tree() -> None:
    workshop = Workshop()
    workshop.edit([Put(file(b"/sw/old/f")), Put(file(b"/sw/old/deep/f"))])
    workshop.edit([Put(file(b"/.cvmfsdirtab"))], dirtab=Dirtab.parse(b"/sw/*\n/sw/*/deep\n"))
    assert workshop.nested() == {b"/sw/old", b"/sw/old/deep"}
    workshop.verify()


def test_files_that_match_are_left_alone() -> None:
    workshop = Workshop()
    workshop.edit([Put(file(b"/sw/f"))], dirtab=Dirtab.parse(b"/sw/*"))
    assert workshop.nested() == set()


# -- both, at random

_names = st.sampled_from([b"a", b"b", b"c"])
_sets = st.lists(
    st.tuples(st.lists(_names, max_size=4).map(paths.join), st.integers(0, 9), st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_sets, min_size=1, max_size=4))
def test_structure_never_changes_what_is_in_the_tree(steps: list[list[tuple[bytes, int, bool]]]) -> None:
    workshop = Workshop()
    model: dict[bytes, Entry] = {}
    rules = Dirtab.parse(b"/a/*\n!/a/c")
    for change_set in steps:
        changes: dict[bytes, Put | Remove] = {}
        for top, number, put in change_set:
            for n in range(number):
                path = top + b"/f%d" % n
                if put:
                    changes[path] = Put(file(path))
                elif path in model:
                    changes[path] = Remove(path)
        ordered = sorted(changes.values(), key=lambda change: paths.components(_path(change)))
        workshop.edit(ordered, dirtab=rules, weights=Weights(most=8, least=3))
        for path, change in changes.items():
            if isinstance(change, Remove):
                del model[path]
                continue
            model[path] = change.entry
            for ancestor in paths.ancestors(path)[1:]:
                model.setdefault(ancestor, replace(directory(ancestor), mtime_ns=99_000_000_000))
        workshop.verify()
        shown = {
            path: row.entry
            for path, row in workshop.rows().items()
            if paths.name(path) not in (MARKER, AUTOMATIC_MARKER)
        }
        assert shown == model


def _path(change: Put | Remove) -> bytes:
    return change.entry.path if isinstance(change, Put) else change.path
