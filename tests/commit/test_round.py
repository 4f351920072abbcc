from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from stratus.errors import Busy, Rejected, StoreError
from stratus.formats import outcomes, records
from stratus.formats.changes import ChangeSet, Put, Remove
from stratus.formats.records import Collection
from stratus.formats.reflog import Reflog
from stratus.ingest.contract import Placement
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.writers.publish import remove
from tests.ingest.reading import read
from tests.repositories import FQRN, Files, content, new_repository, put, reader, writer

LAYOUT = Layout(FQRN)
BEFORE = {"a": b"1", "d": None, "d/b": b"2"}
NEWER: dict[str, bytes | None] = {"a": b"one", "d/c": b"3"}
AFTER = {"a": b"one", "d": None, "d/b": b"2", "d/c": b"3"}


def repository() -> MemoryStore:
    store = MemoryStore()
    new_repository(store)
    put(store, BEFORE)
    return store


def count_requests() -> int:
    calls: list[Call] = []

    def plan(call: Call) -> Fault:
        calls.append(call)
        return Fault.PASS

    put(FaultyStore(repository(), plan), NEWER)
    return len(calls)


def at(index: int, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.index == index else Fault.PASS


def check_reflog(store: Store) -> None:
    """The reflog opens and has what the manifest names; the manifest's hash of it may be behind."""
    manifest = reader(store).manifest
    with Reflog.parse(store.get(LAYOUT.reflog).data) as reflog:
        assert manifest.root in reflog
        assert manifest.history in reflog


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER])
def test_dying_at_any_request_leaves_the_old_or_the_new_revision_and_the_next_publish_heals(fault: Fault) -> None:
    landed = 0
    for index in range(count_requests()):
        store = repository()
        revision = reader(store).manifest.revision
        with pytest.raises(Killed):
            put(FaultyStore(store, at(index, fault)), NEWER)
        seen = content(store)
        assert seen in (BEFORE, AFTER)
        landed += seen == AFTER
        assert reader(store).manifest.revision == revision + (seen == AFTER)
        check_reflog(store)
        put(store, {"later": b"x"})
        assert content(store) == {**seen, "later": b"x"}
        manifest = reader(store).manifest
        assert manifest.reflog == manifest.root.algorithm.digest(store.get(LAYOUT.reflog).data)
    assert landed


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.VANISH, Fault.LOSE])
def test_a_failed_or_unanswered_request_never_publishes_twice_or_half(fault: Fault) -> None:
    for index in range(count_requests()):
        store = repository()
        revision = reader(store).manifest.revision
        try:
            receipt = put(FaultyStore(store, at(index, fault)), NEWER)
        except StoreError:
            seen = content(store)
            assert seen in (BEFORE, AFTER)
            assert reader(store).manifest.revision == revision + (seen == AFTER)
        else:
            assert content(store) == AFTER
            assert receipt.revision == reader(store).manifest.revision == revision + 1
        check_reflog(store)


def test_a_swap_whose_answer_was_lost_is_recognised_by_its_own_bytes() -> None:
    store = repository()
    lost = FaultyStore(
        store, lambda call: Fault.LOSE if (call.verb, call.key) == ("put", LAYOUT.manifest) else Fault.PASS
    )
    assert put(lost, NEWER).revision == 3
    assert content(store) == AFTER


def test_many_writers_at_once_all_land_one_after_another() -> None:
    store = repository()

    def publish_one(number: int) -> int:
        return put(store, {f"n{number}": b"%d" % number}).revision

    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(publish_one, range(8)))
    assert sorted(revisions) == list(range(3, 11))
    assert content(store) == {**BEFORE, **{f"n{number}": b"%d" % number for number in range(8)}}


def test_what_was_removed_by_difference_is_refused_when_others_changed_it_meanwhile() -> None:
    store = repository()
    slow = writer(store)
    with slow.lease(b"/d") as lease:
        put(store, {"new": b"x"}, b"/d")
        change_set = ChangeSet(lease.id, FQRN, b"/d", (Remove(b"/d", recursive=True),), base=lease.base)
        with pytest.raises(Rejected) as caught:
            slow.submit(change_set)
    assert caught.value.reason == "stale_base"
    assert content(store) == {**BEFORE, "d/new": b"x"}


def test_changes_elsewhere_do_not_make_a_base_stale() -> None:
    store = repository()
    slow = writer(store)
    with slow.lease(b"/d") as lease:
        put(store, {"elsewhere": b"x"})
        slow.submit(ChangeSet(lease.id, FQRN, b"/d", (Remove(b"/d", recursive=True),), base=lease.base))
    assert content(store) == {"a": b"1", "elsewhere": b"x"}


def test_a_change_set_that_is_submitted_again_is_not_applied_again() -> None:
    store = repository()
    twice = writer(store)
    with twice.lease(b"/d") as lease:
        change_set = ChangeSet(lease.id, FQRN, b"/d", (Remove(b"/d", recursive=True),), base=lease.base)
        assert twice.submit(change_set) == twice.submit(change_set)
    assert reader(store).manifest.revision == 3


def test_a_rejected_change_set_makes_no_revision() -> None:
    store = repository()
    with pytest.raises(Rejected):
        remove(writer(store), FQRN, b"/not/there", "tester", recursive=True)
    assert reader(store).manifest.revision == 2


# -- outcomes


def landed(store: Store) -> dict[str, outcomes.Outcome]:
    with reader(store).at() as revision:
        return outcomes.parse(revision.tree.root.catalog.get_property(outcomes.PROPERTY))


def test_the_root_names_the_outcome_of_what_it_published() -> None:
    store = repository()
    receipt = put(store, NEWER)
    outcome = landed(store)[receipt.id]
    assert (outcome.state, outcome.revision, outcome.entries) == ("published", 3, (1, 1, 0))


def test_outcomes_are_kept_until_they_are_many_and_their_receipts_are_there() -> None:
    store = new_repository()
    first = put(store, {"first": b""})
    store.delete([LAYOUT.receipt(first.id)])
    for number in range(40):
        put(store, {f"{number}": b""})
    kept = landed(store)
    assert first.id in kept
    assert len(kept) <= 33


# -- garbage collection


def set_collection(store: Store, collection: Collection) -> None:
    store.put(LAYOUT.collection, records.pack(collection))


def test_objects_are_looked_for_again_when_a_sweep_began_and_ended_meanwhile() -> None:
    store = repository()
    slow = writer(store)
    with slow.lease(b"") as lease:
        set_collection(store, Collection(n=1))
        source = read(Files({"x": b"content of x"}), Placement(b""), slow.policy(lease))
        puts = tuple(Put(entry) for entry in source.entries.values())
        change_set = ChangeSet(lease.id, FQRN, b"", puts, tuple(source.objects), base=lease.base)
        with pytest.raises(Rejected) as caught:
            slow.submit(change_set)
        assert caught.value.reason == "objects_collected"
        slow.upload(lease).uploader(list(source.objects.values()))
        slow.submit(change_set)
    assert content(store)["x"] == b"content of x"


def test_nothing_is_published_into_a_running_sweep_that_began_meanwhile() -> None:
    store = repository()
    slow = writer(store)
    with slow.lease(b"") as lease:
        set_collection(store, Collection(n=1, phase="sweep"))
        with pytest.raises(Busy):
            slow.submit(ChangeSet(lease.id, FQRN, b"", (Remove(b"/a"),), base=lease.base))
    assert content(store) == BEFORE
