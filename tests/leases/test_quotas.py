"""Quotas: how many leases a key may have at once, and how much it may upload in a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stratus.errors import QuotaExceeded
from stratus.formats.claim import Epoch
from stratus.formats.key_record import Quota
from stratus.formats.lease_marker import LeaseMarker
from stratus.leases import quotas
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held, release
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.memory import MemoryStore
from tests.repositories import FQRN

LAYOUT = Layout(FQRN)
KEY = "k" * 20


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def lease(store: MemoryStore, path: str, most: int, ttl: int = 300) -> Held | None:
    """A lease that counts, if it fits."""
    wish = Wish(path.encode(), "alice", "here", "secret", ttl, f"{KEY} {path}")
    held = flows.run(acquire(LAYOUT, wish, Epoch(0, "quiet")), store)
    assert quotas.holder_of(held.claim) == KEY
    key = LAYOUT.lease(f"{path[1:]}!!!{held.claim.id}")
    assert not store.missing([key])
    if flows.run(quotas.enter(LAYOUT, KEY, held.claim.id, key, most), store):
        return held
    flows.run(release(LAYOUT, held), store)
    flows.run(quotas.leave(LAYOUT, KEY, held.claim.id), store)
    return None


def markers(store: MemoryStore) -> int:
    return len(list(store.list(LAYOUT.quota(KEY, "leases/"))))


def test_a_key_has_so_many_leases_at_once_and_others_once_these_ended(store: MemoryStore, clock: Clock) -> None:
    held = [lease(store, f"/{n}", 3) for n in range(3)]
    assert None not in held
    assert lease(store, "/more", 3) is None
    assert markers(store) == 3
    assert held[1] is not None
    flows.run(release(LAYOUT, held[1]), store)  # and its marker is left behind
    clock.now += timedelta(seconds=61)
    assert lease(store, "/more", 3) is not None
    assert lease(store, "/still", 3) is None
    assert markers(store) == 3


def test_leases_that_expired_do_not_count(store: MemoryStore, clock: Clock) -> None:
    assert lease(store, "/a", 1, ttl=60)
    clock.now += timedelta(seconds=50)
    assert lease(store, "/b", 1) is None
    clock.now += timedelta(seconds=13)
    assert lease(store, "/b", 1)


def test_a_lease_whose_change_set_was_published_does_not_count(store: MemoryStore) -> None:
    held = lease(store, "/a", 1)
    assert held is not None
    store.put(LAYOUT.receipt(held.claim.id), b"{}")
    store.delete([LAYOUT.lease(f"a!!!{held.claim.id}")])
    assert lease(store, "/b", 1)


def test_a_marker_counts_before_its_claim_is_there(store: MemoryStore, clock: Clock) -> None:
    store.put(LAYOUT.quota(KEY, "leases/young"), LeaseMarker(LAYOUT.lease("x!!!young")).pack())
    assert lease(store, "/a", 1) is None
    clock.now += timedelta(seconds=61)
    assert lease(store, "/a", 1)


def test_five_hundred_leases_are_counted_by_one_listing(store: MemoryStore) -> None:
    for number in range(500):
        key = LAYOUT.lease(f"{number}!!!{number:020}")
        store.put(
            key, flows.run(acquire(LAYOUT, Wish(b"/%d" % number, "a", "h", "s"), Epoch(0, "quiet")), store).claim.pack()
        )
        store.put(LAYOUT.quota(KEY, f"leases/{number:020}"), LeaseMarker(key).pack())
    seen: list[str] = []
    watched = store.observed(lambda exchange: seen.append(exchange.verb))
    assert not flows.run(quotas.enter(LAYOUT, KEY, "z" * 20, LAYOUT.lease("z!!!" + "z" * 20), 500), watched)
    assert seen.count("list") == 1
    assert seen.count("get") < 100


def take(store: MemoryStore, quota: Quota, size: int, count: int = 1) -> None:
    flows.run(quotas.take(LAYOUT, KEY, quota, size, count), store)


@pytest.mark.parametrize("quota", [Quota(bytes_per_day=1000), Quota(objects_per_day=10)])
def test_what_is_granted_in_a_day_has_a_limit(store: MemoryStore, clock: Clock, quota: Quota) -> None:
    take(store, quota, 600, 6)
    take(store, quota, 400, 4)
    with pytest.raises(QuotaExceeded, match="this would make it 1") as caught:
        take(store, quota, 1, 1)
    assert caught.value.retry_after == 12 * 3600 + 1
    take(store, Quota(), 10**12, 10**6)  # another key's, say
    clock.now += timedelta(hours=13)
    take(store, quota, 1000, 10)


def test_what_was_refused_does_not_count(store: MemoryStore) -> None:
    quota = Quota(bytes_per_day=1000)
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            take(store, quota, 1001)
    take(store, quota, 1000)


def test_without_a_limit_nothing_is_written(store: MemoryStore) -> None:
    take(store, Quota(), 1000)
    take(store, Quota(bytes_per_day=1), 0, 0)
    assert list(store.list("")) == []
