from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from stratus.errors import BadName, Exists, NoSuchRepository, NotPermitted, StratusError, Unsuitable, UsageError
from stratus.formats import records
from stratus.formats.key_record import KeyRecord
from stratus.formats.records import Format
from stratus.leases.writer_keys import create, find, list_all, revoke, rotate
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, Ran, Schedule, SimulatedClock, every, run
from stratus.trust.identity import Identity, must_be_active
from stratus.trust.writer_keys import WriterKey

LAYOUT = Layout("test.example.org")
OLD, NEW = WriterKey.generate(), WriterKey.generate()
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(clock: SimulatedClock) -> MemoryStore:
    return with_repository(clock)


def with_repository(clock: SimulatedClock, form: int = records.FORMAT) -> MemoryStore:
    store = MemoryStore(clock=clock)
    store.put(LAYOUT.format, records.pack(Format(form)))
    return store


def make(store: MemoryStore, key: WriterKey = OLD, lifetime: timedelta | None = None) -> KeyRecord:
    return flows.run(create(LAYOUT, key.public_key, "alice", [b"/a", b"/b"], lifetime, "laptop"), store)


def now(store: MemoryStore, key: WriterKey = OLD) -> KeyRecord:
    found = flows.run(find(LAYOUT, key.id), store)
    assert found is not None
    return found


def test_a_key_that_was_made_is_found_by_its_id_and_holds_no_secret(store: MemoryStore) -> None:
    made = make(store)
    assert made == now(store)
    assert (made.id, made.writer, made.paths, made.comment) == (OLD.id, "alice", (b"/a", b"/b"), "laptop")
    assert made.created == store.now()
    assert OLD.private_key.private_bytes_raw() not in store.get(LAYOUT.key(OLD.id)).data
    assert flows.run(find(LAYOUT, NEW.id), store) is None


def test_only_ids_are_looked_for(store: MemoryStore) -> None:
    assert flows.run(find(LAYOUT, "../settings.json"), store) is None
    with pytest.raises(BadName, match=r"\.\./settings"):
        flows.run(revoke(LAYOUT, "../settings.json"), store)


def test_all_keys_are_listed_the_oldest_first(store: MemoryStore, clock: SimulatedClock) -> None:
    assert flows.run(list_all(LAYOUT), store) == []
    made = []
    for _ in range(3):
        made.append(make(store, WriterKey.generate()))
        clock.advance(10)
    assert flows.run(list_all(LAYOUT), store) == made


def test_a_key_needs_a_repository_that_this_version_knows(clock: SimulatedClock) -> None:
    with pytest.raises(NoSuchRepository):
        make(MemoryStore(clock=clock))
    with pytest.raises(Unsuitable):
        make(with_repository(clock, form=99))


def test_one_pair_is_one_key(store: MemoryStore) -> None:
    made = make(store)
    with pytest.raises(Exists):
        make(store)
    assert now(store) == made


def test_a_revoked_key_permits_nothing_at_once_and_for_ever(store: MemoryStore) -> None:
    make(store)
    assert flows.run(revoke(LAYOUT, OLD.id), store) == now(store)
    with pytest.raises(NotPermitted, match="revoked"):
        must_be_active(Identity.of_key(now(store)), store.now())
    before = store.get(LAYOUT.key(OLD.id)).data
    flows.run(revoke(LAYOUT, OLD.id), store)
    assert store.get(LAYOUT.key(OLD.id)).data == before
    with pytest.raises(UsageError, match="revoked"):
        flows.run(rotate(LAYOUT, OLD.id, NEW.public_key), store)
    with pytest.raises(BadName):
        flows.run(revoke(LAYOUT, NEW.id), store)


def test_a_new_key_takes_the_place_of_the_old_one(store: MemoryStore, clock: SimulatedClock) -> None:
    made = make(store, lifetime=30 * DAY)
    clock.advance(10 * DAY.total_seconds())
    new, old = flows.run(rotate(LAYOUT, OLD.id, NEW.public_key), store)
    assert (now(store, NEW), now(store)) == (new, old)
    assert (new.writer, new.grants, new.comment, new.lifetime) == (made.writer, made.grants, made.comment, 30 * DAY)
    assert (new.state, old.state) == ("active", "revoked")
    with pytest.raises(BadName):
        flows.run(rotate(LAYOUT, WriterKey.generate().id, NEW.public_key), store)


def test_the_old_key_may_overlap_with_the_new_one(store: MemoryStore, clock: SimulatedClock) -> None:
    make(store)
    _, old = flows.run(rotate(LAYOUT, OLD.id, NEW.public_key, overlap=DAY), store)
    must_be_active(Identity.of_key(old), store.now() + 0.9 * DAY)
    with pytest.raises(NotPermitted, match="expired"):
        must_be_active(Identity.of_key(old), store.now() + DAY)
    must_be_active(Identity.of_key(now(store, NEW)), store.now() + 900 * DAY)


def test_an_expired_key_can_be_rotated_and_gets_no_second_life(store: MemoryStore, clock: SimulatedClock) -> None:
    make(store, lifetime=DAY)
    clock.advance(2 * DAY.total_seconds())
    new, old = flows.run(rotate(LAYOUT, OLD.id, NEW.public_key, overlap=DAY), store)
    must_be_active(Identity.of_key(new), store.now())
    with pytest.raises(NotPermitted, match="expired"):
        must_be_active(Identity.of_key(old), store.now())


# -- every schedule within bounds --------------------------------------------------------------------------------------

FLOWS: dict[str, Callable[[], Flow[Any]]] = {
    "revoke": lambda: revoke(LAYOUT, OLD.id),
    "rotate": lambda: rotate(LAYOUT, OLD.id, NEW.public_key),
    "overlap": lambda: rotate(LAYOUT, OLD.id, NEW.public_key, overlap=DAY),
}
TEMPLATE = KeyRecord.new(OLD.public_key, "alice", [b"/a"], SimulatedClock()())


@pytest.mark.parametrize("other", FLOWS)
def test_what_was_revoked_stays_revoked_whatever_fails(other: str) -> None:
    def replay(schedule: Schedule) -> tuple[Ran, tuple[MemoryStore, list[str]]]:
        clock = SimulatedClock()
        store = MemoryStore(clock=clock)
        store.put(LAYOUT.key(OLD.id), TEMPLATE.pack())
        seen: list[str] = []
        ran = run(schedule, [FLOWS["revoke"], FLOWS[other]], store, clock, lambda: seen.append(now(store).state))
        return ran, (store, seen)

    faults = (Fault.FAIL, Fault.LOSE, Fault.LATE, Fault.DIE_AFTER)
    for ran, (store, seen) in every(replay, processes=2, switches=2, faults=faults):
        schedule, processes = ran.schedule, ran.processes
        assert "active" not in seen[seen.index("revoked") :] if "revoked" in seen else True, schedule
        for process in processes:
            assert isinstance(process.error, StratusError | None), schedule
            if process.result is not None and processes.index(process) == 0:
                assert now(store).state == "revoked", schedule
        if schedule.failing is None:
            assert now(store).state == "revoked", schedule
