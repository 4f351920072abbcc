from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.errors import BadFormat, Rejected
from stratus.formats import counters, paths, rows
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from tests import stock
from tests.formats import strategies

DIGEST = Algorithm.SHA1.digest(b"nested")
ROOT = Row(Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 4096, 0), links=2)
MOUNTED = Row(Entry(b"/top", Kind.DIRECTORY, 0o755, 0, 0, 4096, 0), links=2, transition=Transition.ROOT)
CHUNKS = tuple(Chunk(offset, 4, Algorithm.SHA1.digest(bytes([offset]))) for offset in (0, 4))


def file(path: bytes, size: int = 1) -> Row:
    return Row(Entry(path, Kind.FILE, 0o644, 0, 0, size, 0, content=Content(Algorithm.SHA1, DIGEST)))


def database_of(data: bytes) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.text_factory = bytes
    database.deserialize(data)
    return database


def changed(data: bytes, *statements: str) -> bytes:
    with closing(database_of(data)) as database:
        for statement in statements:
            database.execute(statement)
        return database.serialize()


@pytest.fixture(params=stock.NAMES)
def stock_catalogs(request: pytest.FixtureRequest, tmp_path: Path) -> dict[Digest, bytes]:
    """All catalogs of a stock repository, of all its revisions."""
    repository = stock.unpack(request.param, tmp_path)
    texts = [key.removeprefix("data/").replace("/", "") for key in repository.object_keys() if key[-1] == "C"]
    names = [ObjectId(Digest.parse(text[:-1]), Suffix.CATALOG) for text in texts]
    assert names
    return {name.digest: repository.plain(name) for name in names}


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    with Catalog.create(ROOT) as catalog:
        yield catalog


# -- catalogs of the stock tools --------------------------------------------------------------------------------------


def test_every_row_of_a_stock_catalog_is_reached_and_counted_as_it_says(stock_catalogs: dict[Digest, bytes]) -> None:
    for data in stock_catalogs.values():
        with Catalog.parse(data) as catalog:
            found = list(catalog.walk())
            assert len(found) == len(catalog) == len({row.entry.path for row in found})
            recounted = counters.zero() | {"nested": len(catalog.nested())}
            for row in found:
                counters.tally(recounted, row)
            assert recounted == catalog.own
            below = counters.zero()
            for nested in catalog.nested():
                with Catalog.parse(stock_catalogs[nested.digest]) as child:
                    assert (child.root_path, len(stock_catalogs[nested.digest])) == (nested.path, nested.size)
                    counters.add(below, counters.total(child.own, child.below))
            assert below == catalog.below


def test_every_column_of_a_stock_catalog_is_written_as_it_was_read(stock_catalogs: dict[Digest, bytes]) -> None:
    for data in stock_catalogs.values():
        with Catalog.parse(data) as catalog, closing(database_of(data)) as database:
            stored = set(database.execute(f"SELECT {', '.join(rows.COLUMNS)} FROM catalog"))
            chunks = set(database.execute("SELECT md5path_1, md5path_2, offset, size, hash FROM chunks"))
            found = list(catalog.walk())
        assert {rows.encode(row) for row in found} == stored
        assert {
            (*paths.md5_halves(row.entry.path), chunk.offset, chunk.size, chunk.digest.raw)
            for row in found
            if row.entry.content
            for chunk in row.entry.content.chunks
        } == chunks


def test_a_stock_catalog_can_be_rebuilt_row_by_row(stock_catalogs: dict[Digest, bytes]) -> None:
    for data in stock_catalogs.values():
        with Catalog.parse(data) as original:
            found = list(original.walk())
            with Catalog.create(found[0]) as copy:
                for row in found[1:]:
                    copy.put(row)
                for nested in original.nested():
                    copy.set_nested(nested)
                assert copy.own == original.own
                assert copy.nested() == original.nested()
                packed = copy.pack()
        with Catalog.parse(packed) as again:
            assert list(again.walk()) == found


def test_the_root_of_a_stock_repository_says_what_its_manifest_does(tmp_path: Path) -> None:
    repository = stock.unpack("sample", tmp_path)
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    data = repository.plain(ObjectId(manifest.root, Suffix.CATALOG))
    assert len(data) == manifest.root_size
    with Catalog.parse(data) as catalog:
        assert (catalog.revision, catalog.last_modified) == (manifest.revision, manifest.timestamp)
        assert (catalog.ttl, catalog.schema_revision, catalog.root_path) == (manifest.ttl, 7, b"")
        assert catalog.previous is not None
        assert repository.plain(ObjectId(catalog.previous, Suffix.CATALOG))
        hidden = catalog.row(b"/.cvmfs")
        assert hidden is not None
        assert hidden.hidden
        assert hidden.transition is Transition.MOUNTPOINT
        nested = {nested.path: nested.digest for nested in catalog.nested()}
    with Catalog.parse(repository.plain(ObjectId(nested[b"/.cvmfs"], Suffix.CATALOG))) as virtual:
        assert b"/.cvmfs/snapshots/v1" in {bound.path for bound in virtual.bind_mountpoints()}
        snapshot = virtual.row(b"/.cvmfs/snapshots/v1")
        assert snapshot is not None
        assert snapshot.transition is Transition.BIND


def test_tables_are_those_of_the_stock_tools(tmp_path: Path, catalog: Catalog) -> None:
    def schema(data: bytes) -> dict[bytes, list[tuple[object, ...]]]:
        with closing(database_of(data)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: list(database.execute(f"PRAGMA table_info({name.decode()})")) for name in names}

    repository = stock.unpack("sample", tmp_path)
    root = Manifest.parse(repository.read(".cvmfspublished")).root
    assert schema(catalog.pack()) == schema(repository.plain(ObjectId(root, Suffix.CATALOG)))


# -- our own ----------------------------------------------------------------------------------------------------------


@given(st.lists(strategies.rows(), unique_by=lambda row: row.entry.path, max_size=8))
def test_rows_come_back_and_take_their_counts_with_them(found: list[Row]) -> None:
    with Catalog.create(ROOT) as catalog:
        for row in found:
            catalog.put(row)
            catalog.put(row)
        with Catalog.parse(catalog.pack()) as again:
            assert len(again) == len(found) + 1
            assert [again.row(row.entry.path) for row in found] == found
            for row in found:
                assert again.delete(row.entry.path) == row
                assert again.delete(row.entry.path) is None
            assert again.own == counters.zero() | {"dir": 1}
            with closing(database_of(again.pack())) as database:
                assert list(database.execute("SELECT * FROM chunks")) == []


def test_the_file_is_what_the_stock_client_can_read(catalog: Catalog) -> None:
    for number in range(200):
        catalog.put(file(b"/%d" % number))
    data = catalog.pack()
    assert int.from_bytes(data[16:18], "big") == 1024
    assert data[18:20] == b"\1\1"  # a rollback journal, no write-ahead log
    assert int.from_bytes(data[36:40], "big") == 0  # free pages
    with closing(database_of(data)) as database:
        assert list(database.execute("PRAGMA integrity_check")) == [(b"ok",)]
        assert dict(database.execute("SELECT counter, value FROM statistics")) == {
            f"{scope}_{name}".encode(): {"self_dir": 1, "self_regular": 200, "self_file_size": 200}.get(
                f"{scope}_{name}", 0
            )
            for scope in ("self", "subtree")
            for name in counters.NAMES
        }
        types = "SELECT DISTINCT typeof(name), typeof(symlink), typeof(hash), typeof(md5path_1) FROM catalog"
        assert sorted(database.execute(types)) == [
            (b"text", b"text", b"blob", b"integer"),
            (b"text", b"text", b"null", b"integer"),
        ]


def test_equal_edits_give_equal_bytes() -> None:
    def build() -> bytes:
        with Catalog.create(ROOT) as catalog:
            for number in range(100):
                catalog.put(file(b"/%d" % number))
            for number in range(0, 100, 2):
                catalog.delete(b"/%d" % number)
            return catalog.pack()

    assert build() == build()


def test_row_numbers_stay_dense(catalog: Catalog) -> None:
    for number in range(1000):
        catalog.put(file(b"/%d" % number))
    for number in range(900):
        catalog.delete(b"/%d" % number)
    data = catalog.pack()
    assert int.from_bytes(data[36:40], "big") == 0
    with closing(database_of(data)) as database:
        assert list(database.execute("SELECT max(rowid), count(*) FROM catalog")) == [(101, 101)]
    assert [row.entry.path for row in catalog.rows(b"")] == sorted(b"/%d" % number for number in range(900, 1000))


def test_changing_one_row_again_and_again_wastes_few_row_numbers(catalog: Catalog) -> None:
    for number in range(100):
        catalog.put(file(b"/%d" % number))
    for size in range(1000):
        catalog.put(file(b"/7", size))
    with closing(database_of(catalog.pack())) as database:
        ((last, count),) = database.execute("SELECT max(rowid), count(*) FROM catalog")
    assert last - count <= 0.25 * last


def test_listings_are_sorted_by_bytes_and_belong_to_one_directory(catalog: Catalog) -> None:
    names = [b"a", b"a.b", b"a\xff", b"A", b"\xe9", b"line\nbreak", b"x" * 255]
    for name in names:
        catalog.put(file(b"/" + name))
    catalog.put(replace(ROOT, entry=replace(ROOT.entry, path=b"/a")))
    catalog.put(file(b"/a/b"))
    assert [row.entry.path[1:] for row in catalog.rows(b"")] == sorted(names)
    assert [row.entry.path for row in catalog.rows(b"/a")] == [b"/a/b"]
    assert catalog.rows(b"/a/b") == []
    walked = [row.entry.path for row in catalog.walk()]
    assert walked[0] == b""
    assert walked.index(b"/a/b") == walked.index(b"/a") + 1


def test_a_nested_catalog_knows_where_it_is_mounted() -> None:
    with Catalog.create(MOUNTED) as catalog:
        catalog.put(file(b"/top/a"))
        with Catalog.parse(catalog.pack()) as again:
            assert again.root_path == b"/top"
            assert [row.entry.path for row in again.walk()] == [b"/top", b"/top/a"]
            assert again.row(b"/top") == MOUNTED
            assert again.row(b"") is None


def test_references_are_counted_once_however_often_they_are_set(catalog: Catalog) -> None:
    for size in (1, 2):
        catalog.set_nested(Nested(b"/b\xff", Algorithm.SHAKE128.digest(b""), size))
        catalog.set_nested(Nested(b"/a", DIGEST, size))
    assert catalog.own["nested"] == 2
    with Catalog.parse(catalog.pack()) as again:
        assert again.nested() == [Nested(b"/a", DIGEST, 2), Nested(b"/b\xff", Algorithm.SHAKE128.digest(b""), 2)]
        again.remove_nested(b"/a")
        again.remove_nested(b"/a")
        assert again.own["nested"] == 1
        assert len(again.nested()) == 1


def test_chunks_go_with_their_file(catalog: Catalog) -> None:
    content = Content(Algorithm.SHA1, None, Compression.NONE, CHUNKS)
    chunked = Row(replace(file(b"/a", 8).entry, content=content))
    catalog.put(chunked)
    assert catalog.row(b"/a") == chunked
    assert (catalog.own["chunked"], catalog.own["chunks"]) == (1, 2)
    catalog.put(file(b"/a"))
    assert (catalog.own["chunked"], catalog.own["chunks"]) == (0, 0)
    with closing(database_of(catalog.pack())) as database:
        assert list(database.execute("SELECT * FROM chunks")) == []


def test_properties_are_text_and_can_be_taken_away(catalog: Catalog) -> None:
    catalog.set_property("revision", 17)
    catalog.set_property("previous_revision", str(DIGEST))
    catalog.set_property("last_modified", 1_700_000_000)
    catalog.set_property("TTL", 61)
    with Catalog.parse(catalog.pack()) as again:
        assert (again.revision, again.previous, again.last_modified, again.ttl) == (17, DIGEST, 1_700_000_000, 61)
        again.set_property("TTL", None)
        again.set_property("previous_revision", "0" * 40)
        assert (again.ttl, again.previous) == (240, None)
    with closing(database_of(catalog.pack())) as database:
        assert {kind for (kind,) in database.execute("SELECT typeof(value) FROM properties")} == {b"text"}


def test_the_next_hard_link_group_is_one_more_than_the_last(catalog: Catalog) -> None:
    assert catalog.last_group() == 0
    for path in (b"/a", b"/b"):
        catalog.put(Row(replace(file(path).entry, group=7), links=2))
    assert catalog.last_group() == 7


def test_a_catalog_is_read_from_a_file(catalog: Catalog, tmp_path: Path) -> None:
    catalog.put(file(b"/a"))
    place = tmp_path / "odd name?#%"
    place.write_bytes(catalog.pack())
    with Catalog.open(place) as again:
        assert list(again.walk()) == list(catalog.walk())


def test_an_old_schema_is_read_and_upgraded(catalog: Catalog) -> None:
    late = replace(file(b"/a").entry, mtime_ns=5_000_000_001)
    catalog.put(Row(late))
    catalog.set_nested(Nested(b"/n", DIGEST, 5))
    catalog.set_property("revision", 3)
    old = changed(
        catalog.pack(),
        "ALTER TABLE catalog DROP COLUMN mtimens",
        "ALTER TABLE catalog DROP COLUMN xattr",
        "DROP TABLE bind_mountpoints",
        "UPDATE properties SET value = '1' WHERE key = 'schema_revision'",
        "UPDATE properties SET value = '2.4' WHERE key = 'schema'",
        "DELETE FROM statistics WHERE counter LIKE '%xattr' OR counter LIKE '%external%' OR counter LIKE '%special'",
    )
    coarse = Row(replace(late, mtime_ns=5_000_000_000))
    reader = Catalog.parse(old)
    assert reader.row(b"/a") == coarse
    assert reader.bind_mountpoints() == []
    with reader.upgraded() as upgraded:
        assert upgraded.schema_revision == 7
        assert (upgraded.revision, upgraded.row(b"/a"), len(upgraded.nested())) == (3, coarse, 1)
        assert upgraded.own == catalog.own
        assert upgraded.upgraded() is upgraded


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE properties SET value = '2.3' WHERE key = 'schema'",
        "UPDATE properties SET value = '3.0' WHERE key = 'schema'",
        "DELETE FROM properties WHERE key = 'schema'",
        "DELETE FROM statistics WHERE counter = 'subtree_external_file_size'",
        "DROP TABLE statistics",
        "DROP TABLE properties",
    ],
)
def test_what_the_stock_client_would_not_load_is_refused(statement: str, catalog: Catalog) -> None:
    with pytest.raises(BadFormat):
        Catalog.parse(changed(catalog.pack(), statement))


def test_what_is_no_catalog_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    data = catalog.pack()
    for broken in (b"", b"x" * 5000, data[:100], data[:18] + b"\2\2" + data[20:]):
        with pytest.raises(BadFormat):
            Catalog.parse(broken)
    with pytest.raises(BadFormat):
        Catalog.open(tmp_path / "missing")


# -- many rows at once -------------------------------------------------------------------------------------------------


def test_rows_that_are_not_inserted_yet_are_there_all_the_same(catalog: Catalog) -> None:
    catalog.insert(file(b"/a", 3))
    assert catalog.row(b"/a") == file(b"/a", 3)
    catalog.put(file(b"/a", 4))
    assert catalog.delete(b"/a") == file(b"/a", 4)
    assert catalog.row(b"/a") is None
    catalog.insert(file(b"/b"))
    assert [row.entry.path for row in catalog.rows(b"")] == [b"/b"]
    assert (catalog.own["regular"], len(catalog)) == (1, 2)


def test_a_second_row_at_one_path_is_rejected(catalog: Catalog) -> None:
    catalog.put(file(b"/a"))
    catalog.flush()
    catalog.insert(file(b"/a"))
    with pytest.raises(Rejected) as caught:
        catalog.flush()
    assert caught.value.reason == "duplicate"


def test_a_changed_row_keeps_its_number(catalog: Catalog) -> None:
    for name in (b"/a", b"/b"):
        catalog.put(file(name))
    before = catalog.pack()
    with Catalog.parse(before) as again:
        again.put(file(b"/a", 7))
        assert again.row(b"/a") == file(b"/a", 7)
        after = again.pack()
    numbers = "SELECT rowid, name FROM catalog ORDER BY rowid"
    with closing(database_of(before)) as one, closing(database_of(after)) as other:
        assert list(one.execute(numbers)) == list(other.execute(numbers))


@given(st.lists(strategies.rows(), max_size=8))
def test_what_moves_to_another_catalog_takes_counts_and_chunks_with_it(found: list[Row]) -> None:
    moved = [replace(row, entry=replace(row.entry, path=b"/top/%d" % n)) for n, row in enumerate(found)]
    with Catalog.create(ROOT) as source, Catalog.create(MOUNTED) as target:
        source.put(replace(MOUNTED, transition=Transition.NONE))
        for row in moved:
            source.put(row)
        source.move_below(b"/top", target)
        assert len(source) == 2
        assert source.own == counters.zero() | {"dir": 2}
        assert [target.row(row.entry.path) for row in moved] == moved
        recounted = counters.zero()
        for row in target.walk():
            counters.tally(recounted, row)
        assert target.own == recounted
        assert target.delete_below(b"/top") == len(moved)
        assert target.own == counters.zero() | {"dir": 1}


def test_hard_link_groups_that_move_get_new_numbers(catalog: Catalog) -> None:
    with Catalog.create(MOUNTED) as nested:
        nested.put(Row(replace(file(b"/top/a").entry, group=2), links=2))
        nested.put(file(b"/top/b"))
        nested.move_below(b"/top", catalog, groups=5)
    groups = [row.entry.group if (row := catalog.row(path)) else None for path in (b"/top/a", b"/top/b")]
    assert groups == [7, 0]


def test_a_group_of_one_is_none_and_others_count_their_members(catalog: Catalog) -> None:
    for name, group in ((b"a", 1), (b"b", 1), (b"c", 2), (b"d", 3)):
        catalog.put(Row(replace(file(b"/" + name).entry, group=group)))
    catalog.mend_groups(b"", {1, 2})
    found = [(row.entry.group, row.links) for row in catalog.rows(b"")]
    assert found == [(1, 2), (1, 2), (0, 1), (3, 1)]


def test_directories_are_listed_with_what_else_is_in_them(catalog: Catalog) -> None:
    for path in (b"/a", b"/a/b", b"/c"):
        catalog.put(replace(ROOT, entry=replace(ROOT.entry, path=path)))
    catalog.put(replace(MOUNTED, transition=Transition.MOUNTPOINT))
    catalog.put(file(b"/a/b/f"))
    assert list(catalog.directories().items()) == [(b"", 1), (b"/a", 0), (b"/a/b", 1), (b"/c", 0)]


def test_directories_of_a_nested_catalog_begin_with_its_root() -> None:
    with Catalog.create(MOUNTED) as nested:
        for path in (b"/top/b", b"/top/a", b"/top/a/c"):
            nested.put(replace(ROOT, entry=replace(ROOT.entry, path=path)))
        nested.put(file(b"/top/f"))
        found = list(nested.directories().items())
    assert found == [(b"/top", 1), (b"/top/a", 0), (b"/top/a/c", 0), (b"/top/b", 0)]


def test_directories_of_a_damaged_catalog_do_not_lead_in_circles() -> None:
    with Catalog.create(MOUNTED) as nested:
        nested.put(replace(ROOT, entry=replace(ROOT.entry, path=b"/top/a")))
        damaged = nested.pack()
    database = sqlite3.connect(":memory:")
    database.deserialize(damaged)
    inner = paths.md5_halves(b"/top/a")
    values = (rows.DIRECTORY, *inner, *paths.md5_halves(b"/top"))
    database.execute(
        "UPDATE catalog SET flags = ?, parent_1 = ?, parent_2 = ? WHERE md5path_1 = ? AND md5path_2 = ?", values
    )
    database.commit()
    with Catalog.parse(database.serialize()) as catalog:
        assert list(catalog.directories()) == [b"/top", b"/top/a"]


def test_link_counts_are_added_to(catalog: Catalog) -> None:
    assert catalog.add_links(b"", 3)
    assert not catalog.add_links(b"/missing", 1)
    found = catalog.row(b"")
    assert found is not None
    assert found.links == 5
