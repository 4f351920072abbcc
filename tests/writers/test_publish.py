from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratus.costs.meter import Meter
from stratus.errors import Rejected, UsageError
from stratus.formats.entries import Entry, Kind
from stratus.formats.receipt import Requests
from stratus.formats.records import Settings
from stratus.ingest.contract import Draft, Placement, Warn
from stratus.ingest.sources import open_source
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.writers.publish import Options, forecast, publish, remove, tag, untag
from tests.repositories import FQRN, Files, content, new_repository, put, reader, writer


@pytest.fixture
def store() -> Store:
    return new_repository()


def names(store: Store) -> list[str]:
    return [tag.name for tag in reader(store).tags()]


def entry(store: Store, path: bytes) -> Entry:
    with reader(store).at() as revision:
        found = revision.lookup(path)
    assert found is not None
    return found


# -- what a publish does


def test_content_lands_at_the_path_and_is_merged(store: Store) -> None:
    put(store, {"a": b"1", "d/x": b"2"}, b"/sw")
    put(store, {"a": b"one", "d/y": b"3"}, b"/sw")
    assert content(store) == {"sw": None, "sw/a": b"one", "sw/d": None, "sw/d/x": b"2", "sw/d/y": b"3"}


def test_replace_makes_the_path_equal_to_the_source(store: Store) -> None:
    put(store, {"other": b"", "sw/a": b"1", "sw/d/x": b"2", "sw/e/f/g": b"3", "sw/e/h": b"4"})
    receipt = put(store, {"a": b"1", "e/h": b"4"}, b"/sw", Options(replace=True))
    assert content(store) == {"other": b"", "sw": None, "sw/a": b"1", "sw/e": None, "sw/e/h": b"4"}
    assert receipt.entries.removed == 4


def test_what_is_there_just_so_is_left_alone(store: Store) -> None:
    put(store, {"a": b"1", "b": b"2"})
    receipt = put(store, {"a": b"1", "b": b"two"})
    assert (receipt.entries.added, receipt.entries.changed) == (0, 1)
    assert (receipt.objects.new, receipt.objects.present) == (1, 1)


def test_a_file_becomes_a_directory_and_the_reverse(store: Store) -> None:
    put(store, {"a": b"1", "d": None, "d/x": b"2"})
    put(store, {"a": None, "a/b": b"3", "d": b"4"})
    assert content(store) == {"a": None, "a/b": b"3", "d": b"4"}


def test_later_sources_win(store: Store) -> None:
    publish(writer(store), FQRN, b"", [Files({"a": b"1", "b": b"1"}), Files({"a": b"2"})], "tester")
    assert content(store) == {"a": b"2", "b": b"1"}


def test_a_path_can_be_made_a_nested_catalog(store: Store) -> None:
    put(store, {"f": b"1"}, b"/sw", Options(catalog=True))
    assert content(store) == {"sw": None, "sw/f": b"1", "sw/.cvmfscatalog": b""}
    with reader(store).at() as revision:
        assert revision.tree.catalog_of(b"/sw").path == b"/sw"


def test_the_root_cannot_be_made_a_nested_catalog(store: Store) -> None:
    with pytest.raises(UsageError):
        put(store, {"f": b"1"}, b"", Options(catalog=True))


def test_hard_links_of_a_directory_stay_hard_links(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    os.link(tmp_path / "a", tmp_path / "b")
    for expected in (2, 0):  # the second time nothing is different
        receipt = publish(writer(store), FQRN, b"/l", [open_source(tmp_path)], "tester")
        assert receipt.entries.added == expected + (expected > 0)
        assert receipt.entries.changed == 0
    with reader(store).at() as revision:
        rows = {row.entry.path: row for row in revision.tree.walk(b"/l")}
    assert {row.links for row in rows.values()} == {2}
    assert len({row.entry.group for row in rows.values()}) == 1
    (tmp_path / "b").unlink()
    (tmp_path / "b").write_text("text")
    publish(writer(store), FQRN, b"/l", [open_source(tmp_path)], "tester")
    assert entry(store, b"/l/a").group == 0


def test_a_large_file_is_cut_and_read_back(tmp_path: Path) -> None:
    store = new_repository(settings=Settings(chunk_minimum=1000, chunk_average=2000, chunk_maximum=4000))
    data = os.urandom(50_000)
    put(store, {"big": data, "small": data[:1000]})
    assert content(store) == {"big": data, "small": data[:1000]}
    big, small = entry(store, b"/big").content, entry(store, b"/small").content
    assert big is not None
    assert small is not None
    assert (big.digest, len(big.chunks) > 10, small.chunks) == (None, True, ())


@pytest.mark.parametrize("name", ["sha1", "rmd160", "shake128"])
@pytest.mark.parametrize("compression", ["fast", "upstream", "none"])
def test_every_hash_and_compression_reads_back(name: str, compression: str) -> None:
    store = new_repository(settings=Settings(hash=name, compression=compression))  # type: ignore[arg-type]
    files: dict[str, bytes | None] = {"a": b"text" * 100, "empty": b"", "d/x": b"1"}
    put(store, files, options=Options())
    put(store, {"y": b""}, b"/n", Options(catalog=True))
    assert content(store) == {**files, "d": None, "n": None, "n/y": b"", "n/.cvmfscatalog": b""}


def test_an_empty_file_is_the_stock_object_whatever_the_compression(store: Store) -> None:
    for settings in (Settings(), Settings(compression="none")):
        other = new_repository(settings=settings)
        put(other, {"empty": b""})
        found = entry(other, b"/empty").content
        assert found is not None
        assert (str(found.digest), found.compression.value) == ("e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78", 0)


# -- requests


def test_a_one_file_publish_makes_33_requests(store: Store) -> None:
    meter = Meter()
    receipt = put(store.observed(meter), {"hello": b"hello\n"}, b"/d")
    assert meter.requests == Requests(get=13, put=13, list=5, delete=2)
    assert receipt.requests == meter.requests
    assert receipt.cost.amount == pytest.approx(18 * 5e-6 + 13 * 4e-7)


def test_new_objects_cost_one_put_each_and_known_ones_none(store: Store) -> None:
    files: dict[str, bytes | None] = {f"{n % 7}/{n}": b"%d" % n for n in range(500)}
    meter = Meter()
    receipt = put(store.observed(meter), files)
    assert receipt.objects.new == 500
    assert meter.requests.put == 500 + 12
    again = Meter()
    receipt = put(store.observed(again), files, options=Options(message="the same"))
    assert (receipt.objects.new, receipt.objects.present) == (0, 500)
    assert again.requests.put == 12
    moved = put(store, {f"moved/{name}": data for name, data in files.items()})
    assert (moved.objects.new, moved.bytes.uploaded) == (0, 0)


def test_objects_of_catalogs_that_were_not_loaded_are_found_by_the_store(store: Store) -> None:
    put(store, {"x": b"content"}, b"/one", Options(catalog=True))
    receipt = put(store, {"x": b"content"}, b"/two", Options(catalog=True))
    assert (receipt.objects.new, receipt.objects.present) == (0, 2)
    assert receipt.bytes.uploaded > 0


def test_other_catalogs_are_read_when_much_would_have_to_be_sent(store: Store) -> None:
    files: dict[str, bytes | None] = {f"{n}": b"content %d" % n for n in range(200)}
    put(store, files, b"/one", Options(catalog=True))
    meter = Meter()
    receipt = put(store.observed(meter), files, b"/two", Options(catalog=True))
    assert (receipt.objects.new, receipt.objects.present) == (0, 201)
    assert meter.requests.put < 30
    assert meter.requests.get < 19


# -- tags


def test_each_publish_gets_an_automatic_tag_and_the_oldest_go() -> None:
    store = new_repository(settings=Settings(auto_tag_limit=3))
    for number in range(5):
        put(store, {"a": b"%d" % number})
    automatic = [found for found in reader(store).tags() if found.name.startswith("generic")]
    assert sorted(found.revision for found in automatic) == [4, 5, 6]
    assert {"trunk", "trunk-previous"} <= set(names(store))


def test_a_named_tag_replaces_the_automatic_one(store: Store) -> None:
    put(store, {"a": b"1"}, options=Options(tag="v1", message="first"))
    assert set(names(store)) == {"trunk", "trunk-previous", "v1"}
    put(store, {"a": b"2"})
    assert content(store, "v1") == {"a": b"1"}
    with pytest.raises(Rejected) as caught:
        put(store, {"a": b"3"}, options=Options(tag="v1"))
    assert caught.value.reason == "tag_exists"
    assert content(store) == {"a": b"2"}


def test_revisions_are_tagged_later_and_tags_removed(store: Store) -> None:
    for number in range(3):
        put(store, {"a": b"%d" % number})
    tag(writer(store), FQRN, "old", 2, "tester", "the first one")
    tag(writer(store), FQRN, "now", None, "tester")
    assert content(store, "old") == {"a": b"0"}
    assert content(store, "now") == content(store, 4) == {"a": b"2"}
    untag(writer(store), FQRN, "old", "tester")
    assert "old" not in names(store)
    for name in ("old", "trunk"):
        with pytest.raises(Rejected):
            untag(writer(store), FQRN, name, "tester")
    with pytest.raises(Rejected) as caught:
        tag(writer(store), FQRN, "future", 99, "tester")
    assert caught.value.reason == "unknown_revision"


def test_a_revision_without_a_tag_is_found_by_way_of_its_successors() -> None:
    store = new_repository(settings=Settings(auto_tags=False))
    for number in range(4):
        put(store, {"a": b"%d" % number})
    tag(writer(store), FQRN, "second", 3, "tester")
    assert content(store, "second") == content(store, 3) == {"a": b"1"}


# -- removing and the log


def test_rm_removes_and_says_how_much(store: Store) -> None:
    put(store, {"d/a": b"1", "d/b": b"2", "e": b"3"})
    receipt = remove(writer(store), FQRN, b"/d", "tester", recursive=True, message="not needed")
    assert receipt.entries.removed == 3
    assert content(store) == {"e": b"3"}


def test_the_log_says_who_when_and_why(store: Store) -> None:
    put(store, {"a": b"1"}, options=Options(message="why", tag="v1"))
    newest, oldest = list(reader(store).log())
    assert (newest.revision, newest.writer, newest.message) == (2, "tester", "why")
    assert set(newest.tags) == {"trunk", "v1"}
    assert oldest.revision == 1


def test_a_receipt_can_be_read_later(store: Store) -> None:
    receipt = put(store, {"a": b"1"})
    assert reader(store).receipt(receipt.id) == receipt
    assert reader(store).receipt("nonesuch") is None


def test_a_publish_that_fails_in_its_source_changes_nothing(store: Store) -> None:
    class Broken(Files):
        def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
            yield from super().scan(placement, warn)
            raise UsageError("the source broke")

    before = store.get(Layout(FQRN).manifest).data
    with pytest.raises(UsageError):
        publish(writer(store), FQRN, b"", [Broken({"a": b"1"})], "tester")
    assert store.get(Layout(FQRN).manifest).data == before


def test_a_tree_with_everything_reads_back_entry_by_entry(store: Store) -> None:
    class Everything:
        name = "everything"

        def __init__(self) -> None:
            self.entries = [
                Draft(b"/e", Kind.DIRECTORY, 0o1777, 5, 6, 4096, 1_700_000_000_123_456_789),
                Draft(b"/e/fifo", Kind.FIFO, 0o600, 5, 6, 0, 2),
                Draft(b"/e/socket", Kind.SOCKET, 0o600, 5, 6, 0, 2),
                Draft(b"/e/null", Kind.CHARACTER, 0o666, 0, 0, 0, 3, rdev=os.makedev(1, 3)),
                Draft(b"/e/disk", Kind.BLOCK, 0o660, 0, 0, 0, 3, rdev=os.makedev(259, 70000)),
                Draft(b"/e/\xff\n\xe9", Kind.SYMLINK, 0o777, 0, 0, 7, -5, target=b"no\xffwhere"[:7]),
                Draft(
                    b"/e/" + b"n" * 255,
                    Kind.DIRECTORY,
                    0o4755,
                    2**32 - 1,
                    0,
                    4096,
                    4,
                    xattrs=((b"user.a", b"\x00\xff"),),
                ),
            ]

        def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
            yield from self.entries

    source = Everything()
    publish(writer(store), FQRN, b"", [source], "tester")
    with reader(store).at() as revision:
        found = {known.path: known for known in revision.walk()}
    expected = [draft.entry() for draft in source.entries]
    assert found == {known.path: replace(known, size=len(known.target) or known.size) for known in expected}


# -- forecasts


@pytest.mark.parametrize("path", [b"", b"/n", b"/other"])
def test_a_forecast_says_what_the_publish_then_does(store: Store, path: bytes) -> None:
    put(store, {"same": b"1", "changed": b"2", "big": os.urandom(3 << 20)})
    put(store, {"x": b"nested"}, b"/n", Options(catalog=True))
    files: dict[str, bytes | None] = {"same": b"1", "changed": b"two", "new": b"3", "x": b"nested", "y": b"1"}
    files |= {"large": os.urandom(2 << 20)}
    before = [stat.key for stat in store.list("")]
    predicted = forecast(writer(store), FQRN, path, [Files(files)], "tester")
    assert [stat.key for stat in store.list("")] == before
    meter = Meter()
    receipt = put(store.observed(meter), files, path)
    assert predicted.entries == receipt.entries
    assert predicted.objects == receipt.objects
    assert predicted.bytes == receipt.bytes
    assert predicted.requests == receipt.requests == meter.requests
    assert predicted.cost == receipt.cost


def test_a_forecast_of_what_would_be_rejected_is_rejected(store: Store) -> None:
    put(store, {"a": b"1"}, options=Options(tag="v1"))
    with pytest.raises(Rejected) as caught:
        forecast(writer(store), FQRN, b"", [Files({"a": b"2"})], "tester", Options(tag="v1"))
    assert caught.value.reason == "tag_exists"


def test_a_writer_that_publishes_again_fetches_less_and_counts_anew(store: Store) -> None:
    both = writer(store)
    first = publish(both, FQRN, b"", [Files({"a": b"1"})], "tester")
    second = publish(both, FQRN, b"", [Files({"b": b"2"})], "tester")
    assert first.requests == Requests(get=13, put=13, list=4, delete=2)
    assert second.requests == Requests(get=7, put=13, list=4, delete=2)
    assert content(store) == {"a": b"1", "b": b"2"}
