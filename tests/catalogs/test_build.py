"""Catalogs that are built at once are those that the edit engine makes of the same entries."""

from __future__ import annotations

import pickle
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.catalogs.attached import verify_attached
from stratus.catalogs.balance import AUTOMATIC_MARKER, Weights
from stratus.catalogs.build import Built, build
from stratus.catalogs.structure import MARKER
from stratus.errors import Rejected
from stratus.formats import paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Change, Put, Remove
from stratus.formats.compression import Compression
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Row
from tests.catalogs.workshop import SHA1, Workshop, directory, file, marker, symlink

TOP = b"/top"
MARKERS = {TOP + b"/" + MARKER, TOP + b"/" + AUTOMATIC_MARKER}
RULES = Dirtab.parse(b"/top/a/*\n/top/*/b\n/elsewhere\n! /top/a/-*\n")
Catalogs = dict[bytes, tuple[dict[bytes, Row], dict[str, int], dict[str, int], int]]


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: paths.components(entry.path))


def built(entries: Iterable[Entry], weights: Weights | None = None, rules: Dirtab | None = None) -> Built:
    """As if ``TOP`` were leased."""
    found = ordered(entries)
    owner = next(((entry.uid, entry.gid) for entry in found if entry.path == TOP), None)
    return build(found, TOP, SHA1, 99, weights, rules, owner)


def attached(made: Built, *before: Change) -> Workshop:
    workshop = Workshop()
    workshop.edit(before)
    workshop.keep(made.catalogs)
    workshop.edit([made.attach])
    return workshop


def catalogs(workshop: Workshop) -> Catalogs:
    """All rows, counters and revisions by catalog; numbers of hard-link groups by their first member."""
    tree = workshop.tree()
    found: Catalogs = {}
    for path in sorted(workshop.nested() | {b""}):
        catalog = tree.catalog_of(path).catalog
        first: dict[int, int] = {0: 0}
        rows = {}
        for row in sorted(catalog.walk(), key=lambda row: row.entry.path):
            group = first.setdefault(row.entry.group, len(first))
            rows[row.entry.path] = replace(row, entry=replace(row.entry, group=group))
        found[path] = rows, catalog.own, catalog.below, catalog.revision if path else 0
    tree.close()
    return found


# -- the same as edited

_names = st.sampled_from([b"a", b"b", b"-", b"\xff", b"a.b"])
_directories = st.lists(_names, max_size=4).map(lambda parts: TOP + paths.join(parts))
_flags = st.sampled_from(["", "named", "marked", "automatic"])


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    found = {TOP + b"/" + MARKER: marker(TOP)}
    filled = draw(st.lists(st.tuples(_directories, st.integers(0, 7), _flags, st.booleans()), max_size=8))
    for top, count, flag, linked in filled:
        for number in range(count):
            path = top + b"/f%d" % number
            attributes = ((b"user.n", b"1"),) if number == 2 else ()
            found[path] = file(path, b"%d" % number, group=number // 2 if linked else 0, xattrs=attributes)
        if flag:
            found[top] = directory(top, 0o711)
        if flag in ("marked", "automatic"):
            found[top + b"/" + MARKER] = marker(top)
        if flag == "automatic" and top != TOP:
            found[top + b"/" + AUTOMATIC_MARKER] = file(top + b"/" + AUTOMATIC_MARKER)
        found[top + b"/s"] = symlink(top + b"/s")
    return ordered(found.values())


@settings(max_examples=150, deadline=None)
@given(trees(), st.sampled_from([None, Weights(8, 3), Weights(20, 5), Weights(20, 2)]), st.sampled_from([None, RULES]))
def test_what_is_built_is_what_would_have_been_edited(
    entries: list[Entry], weights: Weights | None, rules: Dirtab | None
) -> None:
    edited = Workshop()
    counts = edited.edit([Put(entry) for entry in entries], dirtab=rules, weights=weights, mtime_ns=99_000_000_000)
    made = built(entries, weights, rules)
    other = Workshop()
    other.keep(made.catalogs)
    attached_counts = other.edit([made.attach])
    other.verify()
    assert catalogs(other) == catalogs(edited)
    assert sorted(made.warnings) == sorted(edited.made.warnings)
    assert attached_counts.added == counts.added
    verify_attached(made.attach, other.data)


def test_nothing_is_looked_into_when_it_is_attached() -> None:
    workshop = attached(built([marker(TOP), file(TOP + b"/d/f"), marker(TOP + b"/d")]))
    assert workshop.loaded == []
    assert [stored.path for stored in workshop.last] == [b""]
    assert workshop.nested() == {TOP, TOP + b"/d"}


def test_the_top_gets_a_marker_if_it_has_none() -> None:
    made = built([file(TOP + b"/f")])
    assert made.marked
    assert set(attached(made).rows()) == {TOP, *MARKERS, TOP + b"/f"}
    assert not built([file(TOP + b"/f"), marker(TOP)]).marked


def test_what_is_attached_can_be_changed_and_removed_like_anything_else() -> None:
    workshop = attached(built([file(TOP + b"/f"), file(TOP + b"/d/g")]))
    workshop.edit([Put(file(TOP + b"/d/h")), Remove(TOP + b"/f")])
    workshop.verify()
    assert {TOP + b"/d/h", TOP + b"/d/g"} <= workshop.rows().keys()
    counts = workshop.edit([Remove(TOP, recursive=True)])
    assert counts.removed == 6
    assert workshop.rows() == {}
    workshop.verify()


def test_something_is_attached_and_filled_in_one_change_set() -> None:
    made = built([file(TOP + b"/f")])
    workshop = Workshop()
    workshop.keep(made.catalogs)
    counts = workshop.edit([made.attach, Put(file(TOP + b"/d/g"))])
    assert counts.added == 4
    workshop.verify()


def test_a_directory_is_replaced_by_what_is_attached() -> None:
    made = built([file(TOP + b"/new")])
    workshop = Workshop()
    workshop.edit([Put(file(TOP + b"/d/old"))])
    workshop.keep(made.catalogs)
    with pytest.raises(Rejected) as caught:
        workshop.edit([made.attach])
    assert caught.value.reason == "exists"
    workshop.edit([Remove(TOP, recursive=True), made.attach])
    assert set(workshop.rows()) == {TOP, *MARKERS, TOP + b"/new"}
    workshop.verify()


def test_missing_ancestors_of_what_is_attached_are_made() -> None:
    made = build([file(b"/a/b/f")], b"/a/b", SHA1, 99)
    workshop = attached(made)
    assert workshop.rows()[b"/a"].links == 3
    workshop.verify()


def test_what_is_built_travels_between_processes() -> None:
    made = built([file(TOP + b"/f")])
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "bad_attach"),
        ([file(TOP)], "bad_attach"),
        ([file(b"/topping/f")], "bad_attach"),
        ([file(TOP + b"/a/f"), file(TOP + b"/b/f"), file(TOP + b"/a/g")], "not_sorted"),
        ([file(TOP + b"/a/f"), directory(TOP + b"/a")], "not_sorted"),
        ([file(TOP + b"/f"), file(TOP + b"/f")], "not_sorted"),
        ([replace(file(TOP + b"/f"), content=None)], "no_content"),
        ([directory(TOP + b"/" + MARKER)], "bad_marker"),
    ],
)
def test_what_is_no_tree_in_order_is_rejected(entries: list[Entry], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        build(entries, TOP, SHA1, 99)
    assert caught.value.reason == reason


# -- what is looked at before something is attached


def wrong(made: Built, path: bytes, *statements: str) -> str:
    """What is said of a tree in one of whose catalogs something is changed, without its reference knowing."""
    files = {stored.path: Compression.ZLIB.unpack(stored.stored) for stored in made.catalogs}
    with Catalog.parse(files[path]) as catalog:
        for statement in statements:
            catalog._db.execute(statement)
        files[path] = catalog._db.serialize()
    with pytest.raises(Rejected) as caught:
        verify_attached(made.attach, lambda nested: files[nested.path])
    assert caught.value.reason == "bad_attach"
    return caught.value.message


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE catalog SET mode = 16832 WHERE flags & 32", "another root"),
        ("UPDATE properties SET value = '/other' WHERE key = 'root_prefix'", "made for"),
        ("UPDATE properties SET value = '6' WHERE key = 'schema_revision'", "schema"),
        ("UPDATE statistics SET value = 7 WHERE counter = 'self_regular'", "not true"),
        ("UPDATE statistics SET value = 7 WHERE counter = 'subtree_regular'", "not true"),
        ("UPDATE catalog SET md5path_1 = 5 WHERE name = 'f'", "not at their path"),
        ("UPDATE catalog SET parent_1 = 5 WHERE name = 'f'", "in no directory"),
        ("UPDATE catalog SET name = 'f/g' WHERE name = 'f'", "bad names"),
        ("UPDATE catalog SET name = '..' WHERE name = 'f'", "bad names"),
        ("UPDATE catalog SET flags = flags | 32768 WHERE name = 'f'", "cannot be attached"),
        ("DELETE FROM nested_catalogs", "references"),
    ],
)
def test_a_catalog_that_is_not_what_it_says_is_not_attached(statement: str, complaint: str) -> None:
    made = built([file(TOP + b"/f"), marker(TOP + b"/d"), file(TOP + b"/d/f")])
    assert complaint in wrong(made, TOP, statement)
    if "nested" not in statement and "subtree" not in statement:
        assert complaint in wrong(made, TOP + b"/d", statement)


def test_an_attach_that_lies_about_counters_links_or_size_is_found_out() -> None:
    made = built([file(TOP + b"/f")])
    (stored,) = made.catalogs
    plain = Compression.ZLIB.unpack(stored.stored)

    def load(nested: Nested) -> bytes:
        return plain

    verify_attached(made.attach, load)
    for lie in (
        replace(made.attach, counters={**made.attach.counters, "regular": 1}),
        replace(made.attach, links=3),
        replace(made.attach, size=made.attach.size + 1),
    ):
        with pytest.raises(Rejected):
            verify_attached(lie, load)
