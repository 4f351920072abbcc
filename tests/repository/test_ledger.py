"""A change set is in the ledger, or has a receipt, and counts once; whatever fails on the way."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from stratus.costs.ledger import LedgerEntry
from stratus.formats.receipt import Receipt
from stratus.repository.layout import Layout
from stratus.repository.ledger import entries, record, recorded, unrecorded
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, Ran, Schedule, SimulatedClock, every, run

LAYOUT = Layout("test.example.org")
START = datetime(2026, 11, 29, 23, tzinfo=UTC)
IDS = ["a" * 20, "b" * 20, "c" * 20]  # one an hour: one of them before midnight


def new_store(clock: SimulatedClock, ids: list[str] = IDS) -> MemoryStore:
    clock.time = START
    store = MemoryStore(clock=clock)
    for name in ids:
        publish(store, name, clock())
        clock.advance(3600)
    return store


def publish(store: MemoryStore, name: str, at: datetime) -> None:
    receipt = Receipt(
        id=name,
        state="published",
        repository=LAYOUT.fqrn,
        path="/",
        revision=1,
        root="",
        writer="alice",
        message="",
        time=int(at.timestamp()),
    )
    store.put(LAYOUT.receipt(name), receipt.pack())


@pytest.fixture
def store() -> MemoryStore:
    return new_store(SimulatedClock())


def counted(store: MemoryStore) -> list[str]:
    """What is counted now; without threads, since it is asked very often."""
    flow = entries(LAYOUT)
    requests = next(flow)
    while True:
        try:
            requests = flow.send(tuple(flows.answer(request, store) for request in requests))
        except StopIteration as stop:
            return ids(stop.value)


def ids(found: list[LedgerEntry]) -> list[str]:
    return sorted(entry.id for entry in found)


def tend() -> Flow[int]:
    """Records what has no entry yet, then deletes the receipts."""
    known = yield from recorded(LAYOUT)
    new = yield from unrecorded(LAYOUT, {entry.id for entry in known})
    objects = yield from record(LAYOUT, new)
    yield from flows.delete([LAYOUT.receipt(entry.id) for entry in known + new])
    return objects


def test_receipts_are_counted_before_and_after_they_are_recorded(store: MemoryStore) -> None:
    before = flows.run(entries(LAYOUT), store)
    assert ids(before) == IDS
    assert flows.run(recorded(LAYOUT), store) == []
    assert flows.run(tend(), store) == 2
    assert list(store.list(LAYOUT.receipt())) == []
    assert sorted(before, key=lambda entry: entry.id) == sorted(
        flows.run(recorded(LAYOUT), store), key=lambda entry: entry.id
    )
    assert flows.run(entries(LAYOUT), store) == flows.run(recorded(LAYOUT), store)


def test_the_ledger_has_one_object_a_day_and_run(store: MemoryStore) -> None:
    flows.run(tend(), store)
    names = [stat.key.removeprefix(LAYOUT.ledger()) for stat in store.list(LAYOUT.ledger())]
    assert [name[:11] for name in names] == ["2026-11/29-", "2026-11/30-"]
    assert flows.run(tend(), store) == 0


def test_recording_twice_and_in_parts_changes_nothing(store: MemoryStore) -> None:
    found = flows.run(entries(LAYOUT), store)
    for part in (found, found, found[:2], found[1:]):
        flows.run(record(LAYOUT, part), store)
    assert ids(flows.run(recorded(LAYOUT), store)) == IDS
    assert ids(flows.run(entries(LAYOUT), store)) == IDS
    assert flows.run(unrecorded(LAYOUT, set(IDS)), store) == []


def test_days_before_the_first_one_are_left_out(store: MemoryStore) -> None:
    for recording in (False, True):
        if recording:
            flows.run(tend(), store)
        assert ids(flows.run(entries(LAYOUT, date(2026, 11, 29)), store)) == IDS
        assert ids(flows.run(entries(LAYOUT, date(2026, 11, 30)), store)) == IDS[1:]
        assert flows.run(entries(LAYOUT, date(2026, 12, 1)), store) == []


def test_what_is_recorded_is_not_fetched_again(store: MemoryStore) -> None:
    found = flows.run(entries(LAYOUT), store)
    flows.run(record(LAYOUT, found), store)
    asked: list[Any] = []
    flows.run(entries(LAYOUT), store.observed(asked.append))
    assert [exchange.key for exchange in asked if "/receipts/" in exchange.key] == [LAYOUT.receipt()]


def test_every_change_set_counts_once_however_often_tending_is_cut_short() -> None:
    def replay(schedule: Schedule) -> tuple[Ran, tuple[MemoryStore, SimulatedClock]]:
        clock = SimulatedClock()
        store = new_store(clock, IDS[:2])

        def look() -> None:
            assert counted(store) == IDS[:2], schedule

        return run(schedule, [tend, tend], store, clock, look), (store, clock)

    faults = (Fault.FAIL, Fault.LATE, Fault.DIE_AFTER)
    for ran, (store, clock) in every(replay, processes=2, switches=1, faults=faults):
        publish(store, IDS[2], clock() + timedelta(minutes=1))
        flows.run(tend(), store)
        assert ids(flows.run(recorded(LAYOUT), store)) == IDS, ran.schedule


def test_whoever_counts_while_receipts_are_deleted_misses_none() -> None:
    def replay(schedule: Schedule) -> tuple[Ran, None]:
        clock = SimulatedClock()
        return run(schedule, [lambda: entries(LAYOUT), tend], new_store(clock, IDS[:2]), clock), None

    for ran, _ in every(replay, processes=2, switches=2):
        assert ids(ran.processes[0].result) == IDS[:2], ran.schedule
