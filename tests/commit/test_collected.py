"""Commits beside garbage collection, whose states are written by hand here."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest

from stratus.commit import locking
from stratus.commit.committing import Committed, Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.submitting import submit
from stratus.errors import Busy
from stratus.formats import change_file, condemned, records
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, Digest, ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.records import Collection, Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from tests.repositories import FQRN, content, keys, new_repository, problems, put

LAYOUT = Layout(FQRN)
DATA = zlib.compress(b"aaaaa")
OBJECT = ObjectId(Algorithm.SHA1.digest(DATA))


@pytest.fixture
def store() -> Store:
    store = new_repository()
    store.put(LAYOUT.object(OBJECT), DATA)
    return store


def set_collection(store: Store, n: int, phase: str, *dead: ObjectId, kept: Iterable[int] = ()) -> None:
    """The epoch with the lists of the epochs in ``kept``, all of which condemn the same."""
    names = tuple(f"{epoch}-aa" for epoch in kept)
    for name in names:
        for shard in range(256):
            found = [one for one in dead if condemned.shard_of(one) == f"{shard:02x}"]
            store.put(LAYOUT.condemned(name, f"{shard:02x}"), condemned.pack(found))
    store.put(LAYOUT.collection, records.pack(Collection(n=n, phase=phase, lists=names)))  # type: ignore[arg-type]


def submitted(store: Store, epoch: Epoch = Epoch(0, "quiet")) -> str:
    """A change set that names the object, submitted by somebody who looked for it in this epoch."""
    held = flows.run(acquire(LAYOUT, Wish(b"/f", "writer", "host", "secret"), epoch), store)
    entry = Entry(b"/f", Kind.FILE, 0o644, 0, 0, 5, 0, content=Content(Algorithm.SHA1, OBJECT.digest))
    change_set = ChangeSet(held.claim.id, FQRN, b"/f", (Put(entry),), (OBJECT,))
    flows.run(submit(LAYOUT, held, change_file.pack(change_set), 1, epoch), store)
    return held.claim.id


def committed(store: Store) -> Committed:
    def verify(data: bytes) -> Manifest:
        return verify_manifest(data, keys().certificate, FQRN)

    tree = RepositoryTree(LAYOUT, Settings(), verify, keys().sign_manifest)
    seen = flows.run(locking.look(LAYOUT), store)
    assert not seen.lock.held
    return flows.run(commit(Committer(LAYOUT, tree, "committer"), seen), store)


def test_in_the_same_epoch_nothing_is_looked_for(store: Store) -> None:
    change_set = submitted(store)
    store.delete([LAYOUT.object(OBJECT)])  # which cannot be
    assert committed(store).receipts[change_set].state == "published"


def test_what_no_sweep_since_condemned_is_there(store: Store) -> None:
    change_set = submitted(store)
    set_collection(store, 1, "sweep", kept=[1])
    assert committed(store).receipts[change_set].state == "published"
    assert content(store) == {"f": b"aaaaa"}
    assert problems(store) == []


def test_what_the_running_sweep_condemned_waits_until_it_is_over(store: Store) -> None:
    change_set = submitted(store)
    set_collection(store, 1, "sweep", OBJECT, kept=[1])
    for _ in range(2):
        assert committed(store).receipts == {}
    set_collection(store, 1, "drain", OBJECT, kept=[1])
    assert committed(store).receipts == {}
    set_collection(store, 1, "quiet", OBJECT, kept=[1])  # and it was spared
    assert committed(store).receipts[change_set].state == "published"


def test_what_was_swept_is_rejected_and_says_what_to_do(store: Store) -> None:
    change_set = submitted(store)
    store.delete([LAYOUT.object(OBJECT)])
    set_collection(store, 1, "quiet", OBJECT, kept=[1])
    receipt = committed(store).receipts[change_set]
    assert receipt.error is not None
    assert (receipt.state, receipt.error.code) == ("rejected", "objects_collected")
    assert "publish again" in receipt.error.hint
    assert content(store) == {}


@pytest.mark.parametrize("there", [True, False])
def test_when_a_list_is_not_kept_any_more_every_object_is_looked_for(store: Store, there: bool) -> None:
    change_set = submitted(store)
    if not there:
        store.delete([LAYOUT.object(OBJECT)])
    set_collection(store, 3, "sweep", kept=[2, 3])
    assert committed(store).receipts == {}
    set_collection(store, 3, "quiet", kept=[2, 3])
    assert committed(store).receipts[change_set].state == ("published" if there else "rejected")


def test_neighbours_are_published_while_one_waits(store: Store) -> None:
    waiting = submitted(store)
    set_collection(store, 1, "sweep", OBJECT, kept=[1])
    other = put(store, {"x": b"other"}, b"/d")
    assert other.state == "published"
    assert content(store) == {"d": None, "d/x": b"other"}
    set_collection(store, 1, "quiet", OBJECT, kept=[1])
    assert committed(store).receipts[waiting].state == "published"


def test_a_writer_who_needs_what_the_running_sweep_condemned_is_told_so(store: Store) -> None:
    put(store, {"x": b"content of x"}, b"/d")
    found = [stat.key for stat in store.list(f"{FQRN}/data/")]
    names = [key.removeprefix(f"{FQRN}/data/").replace("/", "") for key in found]
    dead = [ObjectId(Digest.parse(name)) for name in names if len(name) == 40]
    set_collection(store, 1, "sweep", *dead, kept=[1])
    with pytest.raises(Busy, match="garbage collection"):
        put(store, {"x": b"content of x"}, b"/e")
    assert "e" not in content(store)
    assert not list(store.list(LAYOUT.lease("")))
