"""What one process has read or written need not be fetched again, and is never mistaken for what is there now."""

from __future__ import annotations

import pytest

from stratus.catalogs.build import build
from stratus.catalogs.tree import CatalogTree
from stratus.commit import locking
from stratus.commit.committing import Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.submitting import submit
from stratus.costs.meter import Meter
from stratus.errors import BadFormat
from stratus.formats import change_file
from stratus.formats.changes import Change, ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Entries, Receipt
from stratus.formats.records import Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.head import read_head, read_named, read_pointer
from stratus.repository.layout import Layout
from stratus.repository.objects import Objects
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Item, Store
from tests.repositories import FQRN, content, keys, new_repository, problems, put, reader

LAYOUT = Layout(FQRN)
QUIET = Epoch(0, "quiet")
DIGEST = Algorithm.SHA1.digest


def verify(data: bytes) -> Manifest:
    return verify_manifest(data, keys().certificate, FQRN)


def publish(store: Store, recent: Recent, *changes: Change) -> Receipt:
    """Submits the changes and commits them with what ``recent`` has."""
    held = flows.run(acquire(LAYOUT, Wish(b"", "writer", "host", "secret"), QUIET), store)
    change_set = ChangeSet(held.claim.id, FQRN, b"", changes)
    flows.run(submit(LAYOUT, held, change_file.pack(change_set), None, QUIET), store)
    tree = RepositoryTree(LAYOUT, Settings(), verify, keys().sign_manifest, recent)
    seen = flows.run(locking.look(LAYOUT), store)
    return flows.run(commit(Committer(LAYOUT, tree, "committer"), seen), store).receipts[change_set.id]


def directory(path: bytes) -> Put:
    return Put(Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 4096, 0))


def gets(store: Store, recent: Recent) -> int:
    """The requests that reading the head takes."""
    meter = Meter()
    flows.run(read_head(LAYOUT, verify, recent), store.observed(meter))
    return meter.requests.get


def test_only_the_manifest_is_fetched_while_it_names_what_is_known() -> None:
    store, recent = new_repository(), Recent()
    assert (gets(store, recent), gets(store, recent)) == (4, 1)
    publish(store, recent, directory(b"/a"))
    assert gets(store, recent) == 1
    publish(store, recent, directory(b"/b"))
    assert content(store) == {"a": None, "b": None}
    assert problems(store) == []


def test_what_others_published_meanwhile_is_fetched() -> None:
    store, recent = new_repository(), Recent()
    publish(store, recent, directory(b"/a"))
    put(store, {"other": b"x"})
    assert gets(store, recent) == 4
    publish(store, recent, directory(b"/b"))
    assert content(store) == {"a": None, "b": None, "other": b"x"}
    assert problems(store) == []


def test_a_reflog_that_was_written_meanwhile_is_read_again() -> None:
    store, recent = new_repository(), Recent()
    publish(store, recent, directory(b"/a"))
    store.put(LAYOUT.reflog, store.get(LAYOUT.reflog).data)  # the same bytes, another version
    publish(store, recent, directory(b"/b"))
    assert content(store) == {"a": None, "b": None}
    assert problems(store) == []


def test_a_catalog_that_a_reader_loaded_is_not_fetched_for_the_commit() -> None:
    store, recent, meter = new_repository(), Recent(), Meter()
    put(store, {".cvmfscatalog": b"", "f": b""}, b"/d")
    pointer = flows.run(read_pointer(LAYOUT, verify), store)
    flows.run(read_named(LAYOUT, pointer, recent), store)
    objects = Objects(store.observed(meter), LAYOUT, recent)
    tree = CatalogTree(pointer.at, objects.catalog)
    assert tree.row(b"/d/f") is not None
    tree.close()
    assert meter.requests.get == 1
    publish(store.observed(meter), recent, directory(b"/d/e"))
    # Lock; the manifest; claim, receipt, change set; the collection.
    assert meter.requests.get == 1 + 2 + 1 + 3 + 1
    assert "d/e" in content(store)


def test_the_objects_that_were_not_used_for_longest_are_dropped() -> None:
    plain = [b"%d" % number * 1000 for number in range(3)]
    stored = [Compression.ZLIB.pack(data) for data in plain]
    names = [ObjectId(DIGEST(data), Suffix.CATALOG) for data in stored]
    recent = Recent(2 * len(stored[0]) + 1, 2 * len(plain[0]) + 1)
    recent.keep(names[0], stored[0])
    assert recent.unpack(names[1], stored[1]) == plain[1]
    assert recent.get(names[0]) == plain[0]
    recent.keep(names[2], stored[2])
    assert recent.get(names[2]) == plain[2]
    assert [recent.get(name) for name in names] == [plain[0], None, plain[2]]


def test_an_object_that_is_too_large_to_be_kept_is_unpacked_all_the_same() -> None:
    stored = Compression.ZLIB.pack(b"plain")
    recent, name = Recent(1, 1), ObjectId(DIGEST(stored), Suffix.CATALOG)
    assert recent.unpack(name, stored, 5) == b"plain"
    assert recent.get(name) is None


@pytest.mark.parametrize("is_unpacked", [True, False])
def test_an_object_of_another_size_than_expected_is_no_object(is_unpacked: bool) -> None:
    stored = Compression.ZLIB.pack(b"plain")
    recent, name = Recent(), ObjectId(DIGEST(stored), Suffix.CATALOG)
    recent.keep(name, stored)
    if is_unpacked:
        assert recent.get(name) == b"plain"
    for size in (4, 6):
        with pytest.raises(BadFormat):
            recent.get(name, size)
    assert recent.get(name, 5) == b"plain"


def test_a_catalog_that_was_built_is_attached_by_a_commit() -> None:
    store, recent = new_repository(), Recent()
    empty = ObjectId(DIGEST(b"x\x9c\x03\x00\x00\x00\x00\x01"))
    files = [
        Entry(b"/sw/f%d" % number, Kind.FILE, 0o644, 0, 0, 0, 0, content=Content(Algorithm.SHA1, empty.digest))
        for number in range(100)
    ]
    made = build(files, b"/sw", Algorithm.SHA1, 1_700_000_000)
    list(store.put_many([Item(LAYOUT.object(catalog.id), catalog.stored) for catalog in made.catalogs]))
    decision = publish(store, recent, made.attach)
    assert decision.entries == Entries(101, 0, 0)
    assert len(content(store)) == 103
    assert problems(store) == []
    tags = [tag.name for tag in reader(store).tags()]
    assert any(name.startswith("generic-") for name in tags)
