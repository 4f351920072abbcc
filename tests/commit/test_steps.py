"""How many requests one after the other a publish takes, and how many in all: what decides its time in a cloud."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from stratus.commit import locking
from stratus.commit.committing import Committed, Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.receipts import find_receipt
from stratus.commit.submitting import Submitted, submit
from stratus.costs.meter import Meter
from stratus.errors import StoreError
from stratus.formats import change_file
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.repository.head import read_head
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Item
from stratus.stores.flows import Flow
from stratus.testing.cloud import LATENCY, Cloud, Limits, run, run_all
from stratus.writers.publish import Options, publish
from tests.repositories import FQRN, Files, content, keys, new_repository, problems, put, writer

T = TypeVar("T")

LAYOUT = Layout(FQRN)
QUIET = Epoch(0, "quiet")


def verify(data: bytes) -> Manifest:
    return verify_manifest(data, keys().certificate, FQRN)


@dataclass(frozen=True, slots=True)
class Site:
    """A repository with a nested catalog at /d, in a cloud; one process leases, submits and commits."""

    cloud: Cloud
    recent: Recent = field(default_factory=Recent)

    def lease(self, path: bytes) -> Flow[Held]:
        held = yield from acquire(LAYOUT, Wish(path, "writer", "host", "secret"), QUIET)
        yield from read_head(LAYOUT, verify, self.recent)
        return held

    def upload(self, data: bytes) -> Flow[ObjectId]:
        stored = Compression.ZLIB.pack(data)
        object_id = ObjectId(Algorithm.SHA1.digest(stored))
        yield from flows.put_many([Item(LAYOUT.object(object_id), stored)])
        return object_id

    def submit(self, held: Held, path: bytes, object_id: ObjectId) -> Flow[Submitted]:
        """The path's last component is the content of the file."""
        size = len(path.rpartition(b"/")[2])
        file = Entry(path, Kind.FILE, 0o644, 0, 0, size, 0, content=Content(Algorithm.SHA1, object_id.digest))
        leased = (held.claim.path or "").encode()
        change_set = ChangeSet(held.claim.id, FQRN, leased, (Put(file),), objects=(object_id,))
        submitted = yield from submit(LAYOUT, held, change_file.pack(change_set), None, QUIET)
        assert isinstance(submitted, Submitted)
        return submitted

    def commit(self, submitted: Submitted) -> Flow[Committed]:
        tree = RepositoryTree(LAYOUT, Settings(), verify, keys().sign_manifest, self.recent)
        return (yield from commit(Committer(LAYOUT, tree, "committer"), submitted.lock))

    def publish(self, name: str, path: bytes = b"/d") -> Flow[str]:
        """One file; gives the id of its change set."""
        held = yield from self.lease(path)
        object_id = yield from self.upload(name.encode())
        submitted = yield from self.submit(held, path + b"/" + name.encode(), object_id)
        yield from self.commit(submitted)
        return held.claim.id


def site(cloud: Cloud | None = None) -> Site:
    cloud = cloud or Cloud()
    new_repository(cloud.store)
    put(cloud.store, {"d": None, "d/.cvmfscatalog": b"", "d/old": b"old"})
    return Site(cloud)


@pytest.fixture
def warm() -> Site:
    """A process that has published before."""
    found = site()
    run(found.publish("before"), found.cloud).value()
    return found


def test_a_commit_is_visible_after_six_requests_in_sequence_and_its_receipt_is_there_after_seven(warm: Site) -> None:
    held = run(warm.lease(b"/d"), warm.cloud).value()
    object_id = run(warm.upload(b"new"), warm.cloud).value()
    submitted = run(warm.submit(held, b"/d/new", object_id), warm.cloud).value()
    ran = run(warm.commit(submitted), warm.cloud)
    assert list(ran.value().receipts) == [held.claim.id]
    assert ran.until("put", LAYOUT.manifest) <= 6
    assert ran.until("put", LAYOUT.receipt(held.claim.id)) <= 7
    assert len(ran.steps) <= 11
    assert ran.seconds == pytest.approx(len(ran.steps) * LATENCY)
    assert problems(warm.cloud.store) == []


def test_leasing_takes_three_requests_in_sequence_and_submitting_takes_three(warm: Site) -> None:
    leased = run(warm.lease(b"/d"), warm.cloud)
    object_id = run(warm.upload(b"new"), warm.cloud).value()
    submitted = run(warm.submit(leased.value(), b"/d/new", object_id), warm.cloud)
    assert (len(leased.steps), len(submitted.steps)) == (3, 3)
    assert submitted.until("put", LAYOUT.lease("d!!!" + leased.value().claim.id)) == 2


def test_a_publish_has_its_receipt_after_fourteen_requests_in_sequence(warm: Site) -> None:
    ran = run(warm.publish("new"), warm.cloud)
    assert ran.until("put", LAYOUT.receipt(ran.value())) <= 14
    assert ran.requests <= 32


def test_a_process_without_warm_catalogs_asks_for_one_more_after_the_other_for_each_level() -> None:
    cold = site()
    ran = run(cold.publish("new"), cold.cloud)
    assert ran.until("put", LAYOUT.receipt(ran.value())) <= 14 + 2
    assert ran.requests <= 36


def test_publishing_one_file_takes_at_most_32_requests_warm_and_36_cold() -> None:
    store = site().cloud.store
    meter = Meter()
    who = writer(store.observed(meter))
    counts = []
    for number in range(3):
        before = meter.requests
        publish(who, FQRN, b"/d", [Files({f"new{number}": b"%d" % number})], "tester", Options(workers=0))
        spent = meter.requests.since(before)
        counts.append(spent.get + spent.put + spent.head + spent.list + spent.delete)
    assert counts[0] <= 36
    assert max(counts[1:]) <= 32
    assert content(store)["d/new2"] == b"2"


def writing(place: Site, name: str) -> Flow[Receipt]:
    """Publishes into a directory of its own, whatever fails on the way, and commits if nobody else does."""
    held = yield from _again(lambda: place.lease(b"/d/" + name.encode()))
    object_id = yield from _again(lambda: place.upload(name.encode()))
    path = b"/d/" + name.encode() + b"/" + name.encode()
    submitted = yield from _again(lambda: place.submit(held, path, object_id))
    seen = submitted.lock
    while True:
        now = yield from flows.now()
        if seen.is_free(now, lambda _: False):
            with contextlib.suppress(StoreError):
                yield from place.commit(Submitted(seen))
        receipt = yield from _again(lambda: find_receipt(LAYOUT, held.claim.id))
        if receipt is not None:
            return receipt
        yield from flows.sleep(0.5)
        seen = yield from _again(lambda: locking.look(LAYOUT))


def _again(begin: Callable[[], Flow[T]]) -> Flow[T]:
    for _ in range(20):
        try:
            return (yield from begin())
        except StoreError:
            continue
    raise AssertionError("it fails all the time")


@pytest.mark.parametrize("seed", range(3))
def test_in_a_cloud_that_refuses_requests_every_change_set_is_published_once(seed: int) -> None:
    calm, stormy = site(), site(Cloud(limits=Limits(reads=60, writes=40), failing=0.03, seed=seed))
    names = [f"w{number}" for number in range(8)]
    took = []
    for place in (calm, stormy):
        ran = run_all([writing(place, name) for name in names], place.cloud)
        receipts = [one.value() for one in ran]
        assert [receipt.state for receipt in receipts] == ["published"] * len(names)
        assert {f"d/{name}/{name}": name.encode() for name in names}.items() <= content(place.cloud.store).items()
        assert problems(place.cloud.store) == []
        took.append(max(one.seconds for one in ran))
    assert (calm.cloud.refused, stormy.cloud.refused > 0) == (0, True)
    assert took[0] < took[1] < 200
