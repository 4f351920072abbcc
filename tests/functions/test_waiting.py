"""Who waits for a lease by asking again is served in the order of those who came."""

from __future__ import annotations

from msgspec.structs import replace

from stratus.formats import messages
from stratus.formats.key_record import Quota
from stratus.formats.messages import LeaseGranted, LeaseRequest
from stratus.functions.contract import Caller, Reply
from stratus.leases.waiting import STALE
from stratus.testing.faults import Call, Fault, FaultyStore
from tests.functions.desk import LAYOUT, Desk, caller, new_desk, of, problem


class Waiter:
    """A writer who asks for a path again and again."""

    def __init__(self, desk: Desk, name: str, path: str = "/sw") -> None:
        self.desk = desk
        self.path = path
        self.caller: Caller = caller(desk.store, name)
        self.attempt = 0
        self.request = f"wish of {name}"

    def ask(self, wait: float = 60.0) -> Reply:
        """The next attempt; ``wait`` 0 for the last."""
        self.attempt += 1
        wish = LeaseRequest(path=self.path, request=self.request, attempt=self.attempt, wait=wait)
        return self.desk.ask("lease.acquire", messages.pack(wish), caller=self.caller)

    def release(self, granted: Reply) -> None:
        lease = messages.parse(granted.body, LeaseGranted)
        assert self.desk.ask("lease.release", caller=self.caller, **of(lease)).status == 204


def waiting(count: int, desk: Desk, *paths: str) -> list[Waiter]:
    """So many who came one after the other while the path was leased."""
    waiters = [Waiter(desk, f"w{number}", path) for number, path in zip(range(count), paths, strict=True)]
    for waiter in waiters:
        assert waiter.ask().status == 409
        desk.clock.advance(seconds=1)
    assert notes(desk) == count
    return waiters


def notes(desk: Desk) -> int:
    return len(list(desk.store.list(LAYOUT.waiting(""))))


def test_two_waiters_are_served_in_the_order_in_which_they_came() -> None:
    desk = new_desk()
    lease = desk.lease("/sw/a")
    first, second = waiting(2, desk, "/sw/a", "/sw/a")
    desk.ask("lease.release", **of(lease))
    found = problem(second.ask())
    assert (found.code, found.status) == ("lease_held", 409)
    assert "somebody waits for /sw/a" in found.detail
    granted = first.ask()
    assert granted.status == 201
    assert problem(second.ask()).holder == "w0"
    first.release(granted)
    assert second.ask().status == 201
    assert notes(desk) == 0


def test_paths_that_overlap_have_one_queue_others_none() -> None:
    desk = new_desk()
    lease = desk.lease("")
    above, beside, below = waiting(3, desk, "/sw", "/other", "/sw/deep")
    desk.ask("lease.release", **of(lease))
    assert below.ask().status == 409
    assert beside.ask().status == 201
    granted = above.ask()
    assert granted.status == 201
    above.release(granted)
    assert below.ask().status == 201


def test_who_comes_and_waits_does_not_overtake_who_does_not_wait_may() -> None:
    desk = new_desk()
    lease = desk.lease("/sw")
    waiting(1, desk, "/sw")
    desk.ask("lease.release", **of(lease))
    newcomer = Waiter(desk, "newcomer")
    assert newcomer.ask().status == 409
    assert Waiter(desk, "hasty").ask(wait=0).status == 201


def test_who_asks_no_more_holds_nobody_up_for_long() -> None:
    desk = new_desk()
    lease = desk.lease("/sw", ttl=7200)
    _, other = waiting(2, desk, "/sw", "/sw")
    desk.ask("lease.release", **of(lease))
    for _ in range(3):
        assert other.ask().status == 409
        desk.clock.advance(seconds=29)
    desk.clock.advance(seconds=5)
    assert other.ask().status == 201
    assert notes(desk) == 1
    desk.clock.advance(seconds=STALE.total_seconds())
    desk.ask("tend", system=True)
    assert notes(desk) == 0


def test_asking_keeps_the_place() -> None:
    desk = new_desk()
    lease = desk.lease("/sw", ttl=7200)
    first, second = waiting(2, desk, "/sw", "/sw")
    for _ in range(10):
        desk.clock.advance(seconds=20)
        assert (first.ask().status, second.ask().status) == (409, 409)
    assert notes(desk) == 2
    desk.ask("lease.release", **of(lease))
    assert (second.ask().status, first.ask().status) == (409, 201)


def test_the_last_attempt_goes_by_the_lease_alone_and_gives_the_place_up() -> None:
    desk = new_desk()
    lease = desk.lease("/sw")
    first, second = waiting(2, desk, "/sw", "/sw")
    assert problem(first.ask(wait=0)).holder == "alice"
    assert notes(desk) == 1
    third = Waiter(desk, "third")
    third.ask()
    desk.ask("lease.release", **of(lease))
    assert third.ask(wait=0).status == 201
    assert notes(desk) == 1
    assert second.ask().status == 409


def test_nobody_takes_the_place_of_another_by_the_name_of_the_request() -> None:
    desk = new_desk()
    lease = desk.lease("/sw")
    (first,) = waiting(1, desk, "/sw")
    liar = Waiter(desk, "liar")
    liar.request = first.request
    desk.ask("lease.release", **of(lease))
    assert liar.ask().status == 409
    assert liar.ask(wait=0).status == 201
    assert notes(desk) == 1


def test_waiting_uses_up_no_quota_and_who_has_none_left_does_not_wait() -> None:
    desk = new_desk()
    lease = desk.lease("/sw")
    first, second = waiting(2, desk, "/sw", "/sw")
    desk.ask("lease.release", **of(lease))
    assert second.ask().status == 409
    assert list(desk.store.list(LAYOUT.quota(second.caller.identity.id, ""))) == []
    first.caller = replace(first.caller, identity=replace(first.caller.identity, quota=Quota(leases=1)))
    other = Waiter(desk, "w0", "/other")
    other.caller = first.caller
    assert other.ask().status == 201
    assert first.ask().status == 429
    assert second.ask().status == 201
    assert notes(desk) == 0


def test_a_lease_that_was_won_is_kept_though_the_note_cannot_be_removed() -> None:
    desk = new_desk()
    lease = desk.lease("/sw")
    (first,) = waiting(1, desk, "/sw")
    desk.ask("lease.release", **of(lease))

    def plan(call: Call) -> Fault:
        return Fault.FAIL if call.verb == "delete" and LAYOUT.waiting("") in call.key else Fault.PASS

    wish = LeaseRequest(path="/sw", request=first.request, attempt=2, wait=60.0)
    store = FaultyStore(desk.store, plan)
    assert desk.ask("lease.acquire", messages.pack(wish), caller=first.caller, store=store).status == 201
    assert notes(desk) == 1
