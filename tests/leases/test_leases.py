from __future__ import annotations

from datetime import timedelta

import pytest

from stratus.errors import Busy, LeaseHeld, LeaseLost, UsageError
from stratus.formats.claim import Claim, Epoch, Seal
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held, break_, key_of, read, release, renew, seal
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import SimulatedClock

LAYOUT = Layout("test.example.org")
QUIET = Epoch(0, "quiet")


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(clock: SimulatedClock) -> MemoryStore:
    return MemoryStore(clock=clock)


def take(store: MemoryStore, path: bytes | None, who: str = "alice", ttl: int = 300) -> Held:
    return flows.run(acquire(LAYOUT, Wish(path, who, f"{who}.host", "secret", ttl), QUIET), store)


def keys(store: MemoryStore) -> list[str]:
    return [stat.key for stat in store.list(LAYOUT.private)]


def test_a_lease_excludes_the_path_what_is_below_and_what_is_above(store: MemoryStore) -> None:
    take(store, b"/a/b")
    for path in (b"/a/b", b"/a/b/c", b"/a", b""):
        with pytest.raises(LeaseHeld):
            take(store, path, "bob")
    for path in (b"/a/bc", b"/b", b"/a/c/b"):
        take(store, path, "bob")


def test_who_is_refused_learns_by_whom_where_and_for_how_long(store: MemoryStore, clock: SimulatedClock) -> None:
    take(store, b"/a", ttl=300)
    clock.advance(100)
    with pytest.raises(LeaseHeld) as caught:
        take(store, b"/a/b", "bob")
    error = caught.value
    assert (error.holder, error.host, error.exit_code) == ("alice", "alice.host", 3)
    assert error.expires is not None
    assert timedelta(seconds=195) < error.expires - clock() <= timedelta(seconds=200)
    assert "/a is leased by alice" in error.message


def test_who_withdraws_leaves_nothing_behind(store: MemoryStore) -> None:
    take(store, b"/a")
    before = keys(store)
    with pytest.raises(LeaseHeld):
        take(store, b"/a", "bob")
    assert keys(store) == before


def test_an_expired_lease_can_be_taken_over_and_its_holder_is_told(store: MemoryStore, clock: SimulatedClock) -> None:
    old = take(store, b"/a", ttl=60)
    clock.advance(63)
    take(store, b"/a", "bob")
    for step in (renew(LAYOUT, old), seal(LAYOUT, old, Seal("d", 1), QUIET)):
        with pytest.raises(LeaseLost, match="expired"):
            flows.run(step, store)


def test_renewing_keeps_it(store: MemoryStore, clock: SimulatedClock) -> None:
    held = take(store, b"/a", ttl=60)
    for _ in range(5):
        clock.advance(50)
        held = flows.run(renew(LAYOUT, held), store)
    with pytest.raises(LeaseHeld):
        take(store, b"/a", "bob")


def test_a_released_lease_is_free_at_once(store: MemoryStore) -> None:
    flows.run(release(LAYOUT, take(store, b"/a")), store)
    assert keys(store) == []
    take(store, b"/a", "bob")


def test_a_sealed_lease_neither_expires_nor_breaks_nor_is_released(store: MemoryStore, clock: SimulatedClock) -> None:
    held = take(store, b"/a", ttl=60)
    assert flows.run(seal(LAYOUT, held, Seal("digest", 9, 3), QUIET), store) == "sealed"
    clock.advance(10_000)
    with pytest.raises(LeaseHeld, match="being published"):
        take(store, b"/a", "bob")
    flows.run(release(LAYOUT, held), store)
    now = flows.run(read(LAYOUT, held.claim), store)
    assert now is not None
    assert now.claim.seal == Seal("digest", 9, 3)
    with pytest.raises(Busy, match="being published"):
        flows.run(break_(LAYOUT, now), store)


def test_a_sealed_lease_that_has_its_receipt_is_in_nobodys_way(store: MemoryStore) -> None:
    held = take(store, b"/a/b")
    flows.run(seal(LAYOUT, held, Seal("digest", 9, 3), QUIET), store)
    store.put(LAYOUT.receipt(held.claim.id), b"{}")
    take(store, b"/a", "bob")
    assert key_of(LAYOUT, held.claim) in keys(store)  # it is left to whoever commits


def test_sealing_again_says_the_same_and_another_change_set_is_refused(store: MemoryStore) -> None:
    held = take(store, b"/a")
    for _ in range(2):
        assert flows.run(seal(LAYOUT, held, Seal("digest", 9), QUIET), store) == "sealed"
    with pytest.raises(LeaseLost, match="another change set"):
        flows.run(seal(LAYOUT, held, Seal("other", 9), QUIET), store)


def test_a_claim_that_is_gone_says_so(store: MemoryStore) -> None:
    held = take(store, b"/a")
    store.delete([key_of(LAYOUT, held.claim)])
    assert flows.run(seal(LAYOUT, held, Seal("digest", 9), QUIET), store) == "gone"


def test_a_broken_lease_is_lost(store: MemoryStore) -> None:
    held = take(store, b"/a")
    flows.run(break_(LAYOUT, held), store)
    with pytest.raises(LeaseLost):
        flows.run(renew(LAYOUT, held), store)


def test_a_later_attempt_of_the_same_wish_takes_the_place_of_the_earlier(store: MemoryStore) -> None:
    wish = Wish(b"/a", "alice", "host", "secret")
    first = flows.run(acquire(LAYOUT, wish, QUIET, 1), store)
    second = flows.run(acquire(LAYOUT, wish, QUIET, 2), store)
    with pytest.raises(LeaseLost, match="later attempt"):
        flows.run(renew(LAYOUT, first), store)
    flows.run(renew(LAYOUT, second), store)
    with pytest.raises(LeaseHeld):
        flows.run(acquire(LAYOUT, wish, QUIET, 1), store)


def test_pathless_claims_overlap_with_nothing(store: MemoryStore) -> None:
    take(store, b"")
    take(store, None)
    take(store, None, "bob")


def test_odd_and_very_long_paths_are_leased_by_components(store: MemoryStore) -> None:
    long = b"/" + b"/".join([b"x" * 250] * 3)
    for path in (long, b"/\xff!_/a b", b"/a!b"):
        held = take(store, path)
        assert held.claim.path == path.decode("utf-8", "surrogateescape")
        for below in (path, path + b"/y"):
            with pytest.raises(LeaseHeld):
                take(store, below, "bob")
        take(store, path + b"y", "bob")
    with pytest.raises(UsageError, match="too long"):
        take(store, b"/" + b"/".join([b"x" * 250] * 4))


def test_a_claim_reads_back_and_never_repeats_its_bytes(store: MemoryStore) -> None:
    claim = take(store, b"/a/\xff").claim
    assert Claim.parse(claim.pack()) == claim
    assert claim.next("open").pack() != claim.next("open").pack()
    assert "secret" not in claim.secret


def test_acquiring_without_a_conflict_takes_two_steps(store: MemoryStore) -> None:
    steps = []
    flow = acquire(LAYOUT, Wish(b"/a/b", "alice", "host", "secret"), QUIET)
    requests = next(flow)
    while True:
        steps.append([type(request).__name__ for request in requests])
        try:
            requests = flow.send(tuple(flows.answer(request, store) for request in requests))
        except StopIteration:
            break
    assert steps == [["Now"], ["PutOne"], ["ListKeys"] * 3]
