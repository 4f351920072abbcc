from __future__ import annotations

import pytest
from msgspec.structs import replace

from stratus.errors import Rejected
from stratus.formats.catalog import Catalog
from stratus.formats.changes import Change, Put, Remove
from stratus.formats.entries import Entry, Kind
from tests.catalogs.workshop import Workshop, directory, file, marker, symlink


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def puts(*entries: Entry) -> list[Change]:
    return [Put(entry) for entry in entries]


def rejection(workshop: Workshop, changes: list[Change], top: bytes = b"") -> str:
    before = workshop.rows()
    with pytest.raises(Rejected) as caught:
        workshop.edit(changes, top)
    assert workshop.rows() == before
    return caught.value.reason


def test_new_entries_are_there_as_they_were_put(workshop: Workshop) -> None:
    entries = [directory(b"/d"), file(b"/d/f", b"text"), symlink(b"/d/s")]
    counts = workshop.edit(puts(*entries))
    assert [row.entry for row in workshop.rows().values()] == entries
    assert (counts.added, counts.changed, counts.removed) == (3, 0, 0)
    workshop.verify()


def test_missing_ancestors_are_made_with_the_owner_of_the_top(workshop: Workshop) -> None:
    top = replace(directory(b"/a/b"), uid=77, gid=78)
    workshop.edit(puts(top, file(b"/a/b/c/f")), b"/a/b")
    made = workshop.rows()
    assert {made[path].entry.uid for path in (b"/a", b"/a/b/c")} == {77}
    assert (made[b"/a"].entry.mode, made[b"/a"].entry.mtime_ns) == (0o755, 99_000_000_000)
    workshop.verify()


def test_an_existing_ancestor_changes_its_link_count_only(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a", 0o700)))
    before = workshop.rows()[b"/a"]
    workshop.edit(puts(file(b"/a/b/f")), b"/a/b")
    after = workshop.rows()[b"/a"]
    assert (after.entry, after.links) == (before.entry, before.links + 1)


def test_a_file_in_the_place_of_an_ancestor_is_refused(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a")))
    assert rejection(workshop, puts(file(b"/a/b"))) == "not_a_directory"


def test_another_type_needs_a_remove_first(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a"), file(b"/a/f")))
    assert rejection(workshop, puts(file(b"/a"))) == "type_change"
    workshop.edit([Remove(b"/a", recursive=True), Put(file(b"/a"))])
    assert {path: row.entry.kind for path, row in workshop.rows().items()} == {b"/a": Kind.FILE}
    workshop.verify()


def test_putting_a_directory_keeps_its_content(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a"), directory(b"/a/b"), file(b"/a/f")))
    counts = workshop.edit(puts(directory(b"/a", 0o700)))
    assert workshop.rows()[b"/a"].entry.mode == 0o700
    assert set(workshop.rows()) == {b"/a", b"/a/b", b"/a/f"}
    assert (counts.added, counts.changed) == (0, 1)
    workshop.verify()


def test_the_roots_own_attributes_can_be_put(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a"), replace(directory(b""), mode=0o711)))
    with workshop.open(workshop.root) as catalog:
        row = catalog.row(b"")
    assert row is not None
    assert (row.entry.mode, row.links) == (0o711, 3)


def test_removing_a_directory_with_content_must_be_recursive(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a"), file(b"/a/f"), file(b"/b")))
    assert rejection(workshop, [Remove(b"/a")]) == "not_empty"
    counts = workshop.edit([Remove(b"/a", recursive=True)])
    assert set(workshop.rows()) == {b"/b"}
    assert counts.removed == 2
    workshop.verify()


def test_removing_what_is_not_there_is_refused(workshop: Workshop) -> None:
    assert rejection(workshop, [Remove(b"/a")]) == "not_found"


def test_changes_outside_of_the_top_are_refused(workshop: Workshop) -> None:
    assert rejection(workshop, puts(file(b"/foobar")), b"/foo") == "outside_of_lease"


def test_the_virtual_directory_is_nobodys_to_change(workshop: Workshop) -> None:
    assert rejection(workshop, puts(file(b"/.cvmfs/x"))) == "reserved"


# -- nested catalogs


def test_a_marker_makes_a_nested_catalog(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/n"), directory(b"/n/d"), file(b"/n/d/f"), marker(b"/n")))
    assert workshop.nested() == {b"/n"}
    assert set(workshop.rows()) == {b"/n", b"/n/.cvmfscatalog", b"/n/d", b"/n/d/f"}
    workshop.verify()


def test_a_new_nested_catalog_takes_the_nested_ones_below_along(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a/b/f"), marker(b"/a/b"), file(b"/a/c/g"), marker(b"/a/c")))
    workshop.edit(puts(marker(b"/a")))
    assert workshop.nested() == {b"/a", b"/a/b", b"/a/c"}
    with workshop.open(workshop.root) as root:
        assert [nested.path for nested in root.nested()] == [b"/a"]
    workshop.verify()


def test_without_its_marker_a_nested_catalog_is_merged_into_its_parent(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a/b/f"), marker(b"/a/b"), marker(b"/a"), file(b"/a/g")))
    workshop.edit([Remove(b"/a/.cvmfscatalog")])
    assert workshop.nested() == {b"/a/b"}
    assert set(workshop.rows()) == {b"/a", b"/a/g", b"/a/b", b"/a/b/f", b"/a/b/.cvmfscatalog"}
    workshop.verify()
    workshop.edit([Remove(b"/a/b/.cvmfscatalog")])
    assert workshop.nested() == set()
    workshop.verify()


def test_markers_come_go_and_move_in_one_change_set(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a/b/c/f"), marker(b"/a/b"), file(b"/x/y/f"), marker(b"/x")))
    workshop.edit(
        [
            Put(marker(b"/a")),
            Remove(b"/a/b/.cvmfscatalog"),
            Put(marker(b"/a/b/c")),
            Remove(b"/x", recursive=True),
            Put(file(b"/x/z/f")),
            Put(marker(b"/x/z")),
        ]
    )
    assert workshop.nested() == {b"/a", b"/a/b/c", b"/x/z"}
    workshop.verify()


def test_a_marker_in_the_root_is_refused(workshop: Workshop) -> None:
    assert rejection(workshop, puts(marker(b""))) == "bad_marker"


def test_a_marker_that_is_no_file_is_refused(workshop: Workshop) -> None:
    assert rejection(workshop, puts(directory(b"/a"), directory(b"/a/.cvmfscatalog"))) == "bad_marker"


def test_both_rows_of_a_transition_point_follow_its_attributes_and_links(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/n/f"), marker(b"/n")))
    workshop.edit(puts(replace(directory(b"/n", 0o711), xattrs=((b"user.k", b"v"),)), directory(b"/n/d")))
    workshop.verify()
    row = workshop.rows()[b"/n"]
    assert (row.entry.mode, row.links, row.entry.xattrs) == (0o711, 3, ((b"user.k", b"v"),))
    workshop.edit([Remove(b"/n/d")])
    workshop.verify()


def test_removing_a_tree_counts_what_is_in_nested_catalogs(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a/f"), marker(b"/a"), file(b"/a/b/g"), marker(b"/a/b")))
    counts = workshop.edit([Remove(b"/a", recursive=True)])
    assert counts.removed == 6
    assert workshop.rows() == {}
    workshop.verify()


def test_only_touched_catalogs_are_loaded_and_written(workshop: Workshop) -> None:
    trees = [b"/%d" % n for n in range(5)]
    workshop.edit(puts(*(entry for tree in trees for entry in (file(tree + b"/f"), marker(tree)))))
    workshop.edit(puts(file(b"/3/g")))
    assert workshop.loaded == [b"/3"]
    assert [stored.path for stored in workshop.last] == [b"/3", b""]


def test_a_catalog_knows_its_revision_and_predecessor(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/n/f"), marker(b"/n")))
    root = workshop.root.digest
    with workshop.open(workshop.root) as catalog:
        (first,) = catalog.nested()
    with workshop.open(first) as catalog:
        assert (catalog.revision, catalog.previous, catalog.last_modified) == (1, None, 99)
        assert catalog.get_property("previous_revision") == "0" * 40
    workshop.edit(puts(file(b"/n/g")))
    with workshop.open(workshop.root) as catalog:
        assert (catalog.revision, catalog.previous) == (3, root)
        (second,) = catalog.nested()
    with workshop.open(second) as catalog:
        assert (catalog.revision, catalog.previous) == (2, first.digest)


# -- hard links


def links(workshop: Workshop) -> dict[bytes, tuple[int, int]]:
    return {path: (row.entry.group, row.links) for path, row in workshop.rows().items() if row.entry.kind is Kind.FILE}


def test_members_of_a_group_share_a_number_and_a_link_count(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a", group=9), file(b"/b", group=9), file(b"/c", group=4), file(b"/d", group=4)))
    assert links(workshop) == {b"/a": (1, 2), b"/b": (1, 2), b"/c": (2, 2), b"/d": (2, 2)}
    workshop.edit(puts(file(b"/e", group=9), file(b"/f", group=9)))
    assert links(workshop)[b"/e"] == (3, 2)
    workshop.verify()


def test_a_group_that_loses_members_counts_anew(workshop: Workshop) -> None:
    workshop.edit(puts(*(file(path, group=1) for path in (b"/a", b"/b", b"/c"))))
    workshop.edit([Remove(b"/a")])
    assert links(workshop) == {b"/b": (1, 2), b"/c": (1, 2)}
    workshop.edit(puts(file(b"/b", b"new")))
    assert links(workshop) == {b"/b": (0, 1), b"/c": (0, 1)}
    workshop.verify()


def test_the_same_number_in_two_directories_is_two_groups(workshop: Workshop) -> None:
    workshop.edit(puts(*(file(path, group=1) for path in (b"/x/a", b"/x/b", b"/y/a", b"/y/b"))))
    assert links(workshop)[b"/x/a"] != links(workshop)[b"/y/a"]
    workshop.verify()


def test_groups_stay_apart_when_catalogs_are_merged(workshop: Workshop) -> None:
    workshop.edit(puts(file(b"/a", group=1), file(b"/b", group=1)))
    workshop.edit(puts(file(b"/n/a", group=1), file(b"/n/b", group=1), marker(b"/n")))
    workshop.edit([Remove(b"/n/.cvmfscatalog")])
    assert links(workshop)[b"/a"] != links(workshop)[b"/n/a"]
    workshop.verify()


def test_the_root_stays_the_first_row_whatever_happens(workshop: Workshop) -> None:
    def first_row() -> bytes:
        with workshop.open(workshop.root) as catalog:
            (name,) = catalog._db.execute("SELECT name FROM catalog WHERE rowid = 1").fetchone()
        return bytes(name)

    workshop.edit(puts(directory(b"/a"), file(b"/f")))
    assert first_row() == b""
    workshop.edit(puts(directory(b"/b"), replace(directory(b""), mode=0o711)))
    assert first_row() == b""
    workshop.edit([Remove(b"/f"), Remove(b"/a"), Remove(b"/b")])
    assert first_row() == b""


def test_a_root_that_is_not_the_first_row_is_put_right(workshop: Workshop) -> None:
    workshop.edit(puts(directory(b"/a"), file(b"/f")))
    with workshop.open(workshop.root) as catalog:
        catalog._db.execute("UPDATE catalog SET rowid = 99 WHERE name = ''")
        data = catalog.pack()
    with Catalog.parse(data) as catalog:
        assert catalog._db.execute("SELECT rowid, name FROM catalog ORDER BY rowid").fetchall()[0] == (1, b"")
        assert len(catalog) == 3
