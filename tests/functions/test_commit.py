"""The commit function: one revision for all that waits, whoever dies where."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from stratus.commit.locking import SeenLock
from stratus.errors import StoreError
from stratus.formats import records
from stratus.formats.receipt import Receipt
from stratus.formats.records import Lock
from stratus.functions.contract import Reply
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from tests.functions.desk import LAYOUT, Desk, new_desk, problem, said
from tests.repositories import content, reader

FILES: Mapping[str, Mapping[str, bytes]] = {"/one": {"a": b"1", "b": b"2"}, "/two": {"a": b"3"}}
PUBLISHED = {"one": None, "one/a": b"1", "one/b": b"2", "two": None, "two/a": b"3"}


def waiting(files: Mapping[str, Mapping[str, bytes]] = FILES) -> tuple[Desk, list[str]]:
    """Change sets in the queue, nobody commits."""
    desk = new_desk()
    ids = []
    for path, contents in files.items():
        lease = desk.lease(path)
        assert desk.submit(lease, desk.change_set(lease, contents)).status == 202
        ids.append(lease.id)
    return desk, ids


def receipts(desk: Desk, ids: list[str]) -> list[Receipt]:
    return [Receipt.parse(desk.store.get(LAYOUT.receipt(name)).data) for name in ids]


def test_all_that_waits_becomes_one_revision_and_listeners_hear_of_it() -> None:
    desk, ids = waiting()
    reply = desk.ask("commit", system=True)
    assert said(reply) == {"revisions": 1, "receipts": sorted(ids), "more": False, "trouble": ""}
    (notify,) = reply.follow_ups
    manifest = reader(desk.store).manifest
    assert (notify.kind, dict(notify.parameters)) == ("notify", {"revision": "2", "root": str(manifest.root)})
    assert content(desk.store) == PUBLISHED
    assert [receipt.state for receipt in receipts(desk, ids)] == ["published"] * 2
    assert sum(receipt.requests.total for receipt in receipts(desk, ids)) > 20


def test_an_empty_queue_makes_nothing() -> None:
    desk, _ = waiting({})
    reply = desk.ask("commit", system=True)
    assert (said(reply)["revisions"], reply.follow_ups) == (0, ())


def test_whoever_finds_the_lock_held_leaves_it_to_the_holder() -> None:
    desk, _ = waiting()
    desk.store.put(LAYOUT.lock, records.pack(Lock(held=True, owner="somebody", gen=7)))
    assert said(desk.ask("commit", system=True))["revisions"] == 0
    desk.clock.advance(seconds=63)
    assert said(desk.ask("commit", system=True))["revisions"] == 1


def test_what_does_not_fit_into_the_time_is_left_to_a_follow_up() -> None:
    desk, _ = waiting({f"/p{number}": {"a": str(number).encode()} for number in range(5)})
    desk.seconds = 0.1  # one round of two
    reply = desk.ask("commit", system=True)
    assert said(reply)["more"]
    assert "commit" in [event.kind for event in reply.follow_ups]
    desk.follow(reply)
    assert len(content(desk.store)) == 10
    assert list(desk.store.list(LAYOUT.queue())) == []


def test_without_a_repository_it_says_so() -> None:
    desk, _ = waiting({})
    desk.store.delete([LAYOUT.settings])
    assert problem(desk.ask("commit", system=True)).code == "no_such_repository"


def at(index: int, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.index == index else Fault.PASS


def healed(desk: Desk, ids: list[str]) -> None:
    """A minute later all is well, and everything has happened once."""
    desk.clock.advance(seconds=125)
    desk.follow(desk.ask("tend", system=True))
    desk.follow(desk.ask("tend", system=True))
    assert [receipt.state for receipt in receipts(desk, ids)] == ["published"] * len(ids)
    assert content(desk.store) == PUBLISHED
    assert reader(desk.store).manifest.revision in (2, 3)  # after a death not all are folded together
    assert desk.problems(data=True) == []
    for prefix in (LAYOUT.queue(), LAYOUT.lease("")):
        assert list(desk.store.list(prefix)) == []
    blob = desk.store.get(LAYOUT.lock)  # if it is held, by somebody who died after all was done
    assert SeenLock(records.parse(blob.data, Lock), blob.version, blob.modified).is_free(
        desk.clock.now, lambda _: False
    )


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER])
def test_killed_at_any_request_the_next_minute_goes_on(fault: Fault) -> None:
    begun, ids = waiting()
    index, died = 0, True
    while died:
        desk = begun.copy()
        died = False
        try:
            desk.ask("commit", system=True, store=FaultyStore(desk.store, at(index, fault)))
        except Killed:
            died = True
            healed(desk, ids)
        index += 1
    assert index > 20


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.VANISH, Fault.LOSE])
def test_a_request_that_fails_or_is_not_answered_is_made_good(fault: Fault) -> None:
    calls: list[Call] = []

    def count(call: Call) -> Fault:
        calls.append(call)
        return Fault.PASS

    begun, ids = waiting()
    begun.ask("commit", system=True, store=FaultyStore(begun.copy().store, count))
    for index in range(len(calls)):
        desk = begun.copy()
        reply = desk.ask("commit", system=True, store=FaultyStore(desk.store, at(index, fault)))
        assert reply.status in (200, 404, 502, 503)
        desk.follow(reply)
        healed(desk, ids)


def test_two_at_once_make_each_receipt_once() -> None:
    """The second one begins wherever the first one is, and believes the lock to be free."""
    begun, ids = waiting()
    for index in range(0, 40, 3):
        desk = begun.copy()
        seen: list[Reply] = []

        def between(call: Call, index: int = index, desk: Desk = desk, seen: list[Reply] = seen) -> Fault:
            if call.index == index and not seen:
                lock = records.parse(desk.store.get(LAYOUT.lock).data, Lock)
                desk.store.put(LAYOUT.lock, records.pack(Lock(gen=lock.gen + 1)))
                seen.append(desk.ask("commit", system=True))
            return Fault.PASS

        desk.ask("commit", system=True, store=FaultyStore(desk.store, between))
        healed(desk, ids)


def test_an_error_of_the_store_is_a_problem_with_a_time_to_come_back() -> None:
    desk, _ = waiting()
    reply = desk.ask("commit", system=True, store=FaultyStore(desk.store, at(0, Fault.FAIL)))
    assert problem(reply).code == StoreError.code
    assert "Retry-After" in dict(reply.headers)
