"""Faults at every request, on the memory store: what ``tests/commit`` does not go through."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import Buffer

from stratus.commit import committing, receipts
from stratus.errors import Busy, RolledBack, StoreError, Unsuitable
from stratus.formats.records import Settings
from stratus.repository.creation import create
from stratus.repository.layout import Layout
from stratus.repository.removal import destroy
from stratus.stores.contract import ALWAYS, Blob, Condition, Headers, Match, Observer, Prepared, Store, Version
from stratus.stores.memory import MemoryStore
from stratus.stores.probe import probe
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.writers.publish import remove, tag, untag
from tests.crash.processes import BEFORE, assert_heals, problems
from tests.repositories import FQRN, content, keys, new_repository, put, reader, writer

LAYOUT = Layout(FQRN)
Action = Callable[[Store], object]


def _repository() -> MemoryStore:
    store = MemoryStore()
    new_repository(store)
    put(store, BEFORE)
    tag(writer(store), FQRN, "v1", None, "tester")
    return store


def _at(index: int, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.index == index else Fault.PASS


def _indices(action: Action, before: Callable[[], Store]) -> range:
    calls: list[Call] = []

    def plan(call: Call) -> Fault:
        calls.append(call)
        return Fault.PASS

    action(FaultyStore(before(), plan))
    return range(len(calls))


def _tags(store: Store) -> set[str]:
    return {known.name for known in reader(store).tags()}


ACTIONS: dict[str, Action] = {
    "rm": lambda store: remove(writer(store), FQRN, b"/d", "tester", recursive=True),
    "tag": lambda store: tag(writer(store), FQRN, "v2", None, "tester"),
    "untag": lambda store: untag(writer(store), FQRN, "v1", "tester"),
}


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL, Fault.VANISH, Fault.LOSE])
@pytest.mark.parametrize("name", ACTIONS)
def test_a_fault_at_any_request_leaves_all_as_it_was_or_as_it_shall_be(name: str, fault: Fault) -> None:
    action = ACTIONS[name]
    old, new = _repository(), _repository()
    action(new)
    states = [(content(store), _tags(store) - _automatic(store)) for store in (old, new)]
    for index in _indices(action, _repository):
        store = _repository()
        revision = reader(store).manifest.revision
        try:
            action(FaultyStore(store, _at(index, fault)))
            done = True
        except (Killed, StoreError, Busy):
            done = False
        state = (content(store), _tags(store) - _automatic(store))
        assert state in states
        assert not done or state == states[1]
        assert reader(store).manifest.revision == revision + states.index(state)
        assert problems(store) <= {"stale_reflog"}
        assert_heals(store, states[1][0])


def _automatic(store: Store) -> set[str]:
    return {name for name in _tags(store) if name.startswith("generic")}


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL, Fault.VANISH, Fault.LOSE])
def test_a_creation_that_was_interrupted_anywhere_can_be_repeated_or_is_done(fault: Fault) -> None:
    def make(store: Store) -> None:
        create(store, FQRN, keys(), Settings())

    for index in _indices(make, MemoryStore):
        store = MemoryStore()
        try:
            make(FaultyStore(store, _at(index, fault)))
        except (Killed, StoreError):
            if store.missing([LAYOUT.manifest]):
                make(store)
        assert content(store) == {}
        assert problems(store) == set()
        assert_heals(store)


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL])
def test_a_removal_that_was_interrupted_anywhere_can_be_repeated(fault: Fault) -> None:
    for index in _indices(lambda store: destroy(store, FQRN), _repository):
        store = _repository()
        try:
            destroy(FaultyStore(store, _at(index, fault)), FQRN)
        except (Killed, StoreError):
            if list(store.list(f"{FQRN}/")) or list(store.list(f".stratus/{FQRN}/")):
                destroy(store, FQRN)
        assert not [stat.key for stat in store.list("") if FQRN in stat.key]


@pytest.mark.parametrize("seed", range(20))
def test_a_store_that_fails_at_every_third_request_is_left_whole(seed: int) -> None:
    dice = random.Random(seed)
    store = _repository()
    after = BEFORE | {"new": b"new"}
    revision = reader(store).manifest.revision
    with contextlib.suppress(StoreError, Busy):
        put(FaultyStore(store, lambda _: Fault.FAIL if dice.random() < 1 / 3 else Fault.PASS), {"new": b"new"})
    seen = content(store)
    assert seen in (BEFORE, after)
    assert reader(store).manifest.revision == revision + (seen == after)
    assert_heals(store, after)


class _Replica(MemoryStore):
    """Reads lag ``lag`` writes behind; writes and their conditions do not."""

    lag = 0

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[str, list[Blob]] = {}

    def observed(self, observer: Observer) -> _Replica:
        return self

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        known = super().get(key) if not self.missing([key]) else None
        version = super().put(key, data, when, headers)
        if known is not None:
            self._old.setdefault(key, []).append(known)
        return version

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        old = self._old.get(key, [])
        return old[-self.lag] if 0 < self.lag <= len(old) else super().get(key, span)


def test_an_eventually_consistent_replica_is_refused_when_a_repository_is_created() -> None:
    store = _Replica()
    store.lag = 1
    with pytest.raises(Unsuitable, match="does not read what was written last"):
        probe(store, "somewhere")
    with pytest.raises(Unsuitable):
        create(store, FQRN, keys(), Settings())
    assert not list(store.list(f"{FQRN}/"))


def test_a_store_that_becomes_one_later_costs_no_revision_and_readers_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(receipts, "_LONGEST_PAUSE", 0.0)
    store = _Replica()
    new_repository(store)
    put(store, BEFORE)
    put(store, {"second": b"2"})
    known = reader(store)
    known.refresh()
    store.lag = 1
    with pytest.raises(RolledBack):
        known.refresh()
    with pytest.raises((Busy, StoreError)):
        put(store, {"third": b"3"})
    store.lag = 0
    assert content(store) == BEFORE | {"second": b"2"}
    assert problems(store) <= {"stale_reflog"}
    assert_heals(store, BEFORE | {"second": b"2", "third": b"3"})


class _Wandering(MemoryStore):
    """Its clock is somewhere else each time."""

    def __init__(self, days: Iterator[int]) -> None:
        super().__init__()
        self._days = days

    def observed(self, observer: Observer) -> _Wandering:
        return self

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=next(self._days))


def test_the_time_of_revisions_never_falls_though_the_clock_does() -> None:
    store = _Wandering(itertools.cycle([0, 1, -1]))
    new_repository(store)
    times = [reader(store).manifest.timestamp]
    for number in range(6):
        put(store, {"file": b"%d" % number})
        times.append(reader(store).manifest.timestamp)
    assert times == sorted(times)


class _Torn(MemoryStore):
    """One read of one key gives other bytes than the store holds, under the same version."""

    torn = ""

    def observed(self, observer: Observer) -> _Torn:
        return self

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        blob = super().get(key, span)
        if key != self.torn:
            return blob
        self.torn = ""
        middle = len(blob.data) // 2
        flipped = blob.data[:middle] + bytes([blob.data[middle] ^ 1]) + blob.data[middle + 1 :]
        return Blob(flipped, blob.version, blob.modified)


def test_a_reflog_that_was_damaged_on_the_way_is_not_written_back() -> None:
    store = _Torn()
    new_repository(store)
    put(store, BEFORE)
    store.torn = LAYOUT.reflog
    put(store, {"new": b"new"})
    assert store.torn == ""
    assert problems(store) == set()


def test_a_put_that_lands_late_is_not_taken_for_a_failure() -> None:
    """The answer of the swap is lost, and when it is looked for, it is not there yet."""
    store = _repository()
    late: list[Callable[[], Version]] = []

    class Late(FaultyStore):
        def observed(self, observer: Observer) -> FaultyStore:
            return self

        def prepare_put(
            self, key: str, data: Buffer, when: Condition, headers: Headers | None = None
        ) -> Prepared[Version]:
            prepared = super().prepare_put(key, data, when, headers)
            if key == LAYOUT.manifest and isinstance(when, Match) and not late:
                late.append(lambda: store.put(key, data, when, headers))
            return prepared

        def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
            blob = super().get(key, span)
            if key == LAYOUT.manifest and len(late) == 1:
                late[0]()
                late.append(late[0])
            return blob

    swaps = iter([Fault.VANISH])

    def plan(call: Call) -> Fault:
        return next(swaps, Fault.PASS) if (call.verb, call.key) == ("put", LAYOUT.manifest) else Fault.PASS

    revision = reader(store).manifest.revision
    receipt = put(Late(store, plan), {"new": b"new"})
    assert len(late) == 2
    assert receipt.revision == reader(store).manifest.revision == revision + 1
    assert content(store) == BEFORE | {"new": b"new"}
