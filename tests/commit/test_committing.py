from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from stratus.commit import locking
from stratus.commit.committing import Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.queue import ENTRY, entry_key
from stratus.commit.submitting import submit
from stratus.errors import LeaseHeld, Rejected, StoreError
from stratus.formats import change_file, outcomes
from stratus.formats.changes import ChangeSet, Put, Remove
from stratus.formats.claim import Claim, Epoch
from stratus.formats.entries import Entry, Kind
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.formats.reflog import Reflog
from stratus.formats.trusted import verify_manifest
from stratus.leases import process_mark
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.writers.publish import Options, publish, remove
from tests.repositories import FQRN, Files, content, keys, new_repository, problems, put, reader, writer

LAYOUT = Layout(FQRN)
BEFORE = {"a": b"1", "d": None, "d/b": b"2"}
NEWER: dict[str, bytes | None] = {"a": b"one", "d/c": b"3"}
AFTER = {"a": b"one", "d": None, "d/b": b"2", "d/c": b"3"}


@pytest.fixture
def everybody_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of this machine left behind is not waited for: the writers of these tests share a process."""
    monkeypatch.setattr(process_mark, "has_ended", lambda mark: True)


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


@pytest.mark.usefixtures("everybody_has_died")
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
        # What was submitted is not lost: the next who commits publishes it.
        assert content(store) in ({**seen, "later": b"x"}, {**AFTER, "later": b"x"})
        assert left_over(store) == []
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


def test_what_is_sealed_while_others_are_committed_goes_with_the_next() -> None:
    store = MemoryStore()
    new_repository(store)
    epoch = Epoch(0, "quiet")
    early, slow, late = (
        flows.run(acquire(LAYOUT, Wish(path, "writer", "host", "secret"), epoch), store)
        for path in (b"/a", b"/b", b"/c")
    )

    def finish(held: Held) -> None:
        path = (held.claim.path or "").encode()
        entry = Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 4096, 0)
        change_set = ChangeSet(held.claim.id, FQRN, path, (Put(entry),))
        flows.run(submit(LAYOUT, held, change_file.pack(change_set), None, epoch), store)

    waiting = [slow, late]

    def plan(call: Call) -> Fault:
        while (call.verb, call.key) == ("put", LAYOUT.manifest) and waiting:
            finish(waiting.pop())
        return Fault.PASS

    finish(early)
    store.put(entry_key(LAYOUT, slow.claim), ENTRY)  # its seal is on the way

    def verify(data: bytes) -> Manifest:
        return verify_manifest(data, keys().certificate, FQRN)

    tree = RepositoryTree(LAYOUT, Settings(), verify, keys().sign_manifest)
    seen = flows.run(locking.look(LAYOUT), store)
    committed = flows.run(commit(Committer(LAYOUT, tree, "committer"), seen), FaultyStore(store, plan))
    assert set(committed.receipts) == {held.claim.id for held in (early, slow, late)}
    assert committed.revisions == 2
    assert content(store) == {"a": None, "b": None, "c": None}


def test_a_swap_whose_answer_was_lost_is_recognised_by_its_own_bytes() -> None:
    store = repository()
    lost = FaultyStore(
        store, lambda call: Fault.LOSE if (call.verb, call.key) == ("put", LAYOUT.manifest) else Fault.PASS
    )
    assert put(lost, NEWER).revision == 3
    assert content(store) == AFTER


def test_many_writers_at_once_all_land() -> None:
    store = repository()

    def publish_one(number: int) -> int:
        return put(store, {"x": b"%d" % number}, b"/n%d" % number).revision

    with ThreadPoolExecutor(8) as pool:
        revisions = set(pool.map(publish_one, range(8)))
    assert revisions == set(range(3, 3 + len(revisions)))
    assert {f"n{number}/x": b"%d" % number for number in range(8)}.items() <= content(store).items()
    assert problems(store) == []
    assert left_over(store) == []


def left_over(store: Store) -> list[str]:
    """What should be gone once nobody publishes: claims (but dead ones, which are tidied up later), queue entries."""
    claims = [stat.key for kind in (LAYOUT.lease(""), LAYOUT.pathless("")) for stat in store.list(kind)]
    alive = [key for key in claims if Claim.parse(store.get(key).data).state != "dead"]
    return alive + [stat.key for kind in (LAYOUT.queue(), LAYOUT.waiting("")) for stat in store.list(kind)]


@pytest.mark.parametrize("path", [b"", b"/d", b"/d/b", b"/d/e/f"])
def test_nobody_publishes_into_what_somebody_else_has_leased(path: bytes) -> None:
    store = repository()
    slow = writer(store)
    with slow.lease(b"/d") as lease:
        if path == b"/d/b":
            put(store, {"new": b"x"}, b"/dd")  # that is somewhere else
        with pytest.raises(LeaseHeld, match="leased by tester"):
            put(store, {"new": b"x"}, path)
        slow.submit(ChangeSet(lease.id, FQRN, b"/d", (Remove(b"/d", recursive=True),), base=lease.base))
    assert "d" not in content(store)
    assert left_over(store) == []


def test_a_lease_is_waited_for() -> None:
    store = repository()
    first = writer(store)
    with ThreadPoolExecutor(1) as pool:
        with first.lease(b"/d"):
            waiting = pool.submit(
                publish, writer(store), FQRN, b"/d", [Files({"new": b"x"})], "tester", Options(wait=30)
            )
            wait_until(lambda: bool(list(store.list(LAYOUT.waiting("")))))
        assert waiting.result().revision == 3
    assert content(store) == {**BEFORE, "d/new": b"x"}
    assert left_over(store) == []


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_lease_that_nothing_is_submitted_under_is_released() -> None:
    store = repository()
    with writer(store).lease(b"/d"):
        assert left_over(store)
    assert left_over(store) == []


def test_a_change_set_that_is_submitted_again_is_not_applied_again() -> None:
    store = repository()
    twice = writer(store)
    with twice.lease(b"/d") as lease:
        change_set = ChangeSet(lease.id, FQRN, b"/d", (Remove(b"/d", recursive=True),), base=lease.base)
        assert twice.submit(change_set) == twice.submit(change_set)
    assert reader(store).manifest.revision == 3


def test_a_rejected_change_set_changes_nothing_and_the_next_revision_says_so() -> None:
    store = repository()
    with pytest.raises(Rejected):
        remove(writer(store), FQRN, b"/not/there", "tester", recursive=True)
    assert content(store) == BEFORE
    (rejected,) = [outcome for outcome in landed(store).values() if outcome.state == "rejected"]
    assert rejected.revision == reader(store).manifest.revision == 3
    (receipt,) = [receipt for receipt in receipts(store) if receipt.state == "rejected"]
    assert receipt.error is not None
    assert (receipt.revision, receipt.error.code) == (3, "not_found")


def receipts(store: Store) -> list[Receipt]:
    return [Receipt.parse(store.get(stat.key).data) for stat in store.list(LAYOUT.receipt(""))]


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
