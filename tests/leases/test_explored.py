"""Leases under every schedule within bounds: claims that overlap are never sealed both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from stratus.errors import LeaseHeld, LeaseLost, StratusError, Unknown
from stratus.formats import path_code, paths
from stratus.formats.claim import Claim, Epoch, Seal
from stratus.leases.acquiring import Wish, _put_first, acquire
from stratus.leases.holding import release, renew, seal
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, Process, Ran, Schedule, SimulatedClock, every, run

LAYOUT = Layout("test.example.org")
QUIET = Epoch(0, "quiet")
FAULTS = (Fault.FAIL, Fault.LOSE, Fault.LATE, Fault.DIE_AFTER)


def publisher(path: bytes, claim: str, *, renewing: bool = False, request: str | None = None, attempt: int = 1) -> Any:
    """A process that acquires, perhaps renews, and seals; its result is the id that was sealed."""

    def start() -> Flow[str]:
        wish = Wish(path, "writer", "host", claim, request=request or claim)
        held = yield from acquire(LAYOUT, wish, QUIET, attempt, claim)
        if renewing:
            held = yield from renew(LAYOUT, held)
        yield from seal(LAYOUT, held, Seal(claim, 1), QUIET)
        return claim

    return start


def leaver(path: bytes, claim: str) -> Any:
    """A process that acquires and releases."""

    def start() -> Flow[str]:
        held = yield from acquire(LAYOUT, Wish(path, "writer", "host", claim), QUIET, 1, claim)
        yield from release(LAYOUT, held)
        return claim

    return start


def late_comer(clock: SimulatedClock, path: bytes, claim: str) -> Any:
    """A publisher that comes when the others' claims, if they did not move, have expired."""

    def start() -> Flow[str]:
        yield from flows.find("nothing")
        clock.advance(400)
        sealed_id: str = yield from publisher(path, claim)()
        return sealed_id

    return start


def sealed(store: MemoryStore) -> list[bytes]:
    found = []
    for stat in store.list(LAYOUT.lease("")):
        claim = Claim.parse(store.get(stat.key).data)
        if claim.state == "sealed":
            found.append(path_code.split_name(stat.key.removeprefix(LAYOUT.lease("")))[0])
    return found


def explore(
    make: Callable[[SimulatedClock], list[Callable[[], Flow[Any]]]], switches: int, faults: tuple[Fault, ...] = ()
) -> Iterator[tuple[Schedule, Sequence[Process], MemoryStore]]:
    def replay(schedule: Schedule) -> tuple[Ran, MemoryStore]:
        clock = SimulatedClock()
        store = MemoryStore(clock=clock)

        def check() -> None:
            paths_sealed = sealed(store)
            for one in paths_sealed:
                overlapping = [other for other in paths_sealed if paths.contains(one, other)]
                assert overlapping == [one], schedule

        return run(schedule, make(clock), store, clock, check), store

    for ran, store in every(replay, len(make(SimulatedClock())), switches, faults):
        yield ran.schedule, ran.processes, store


CONTENDERS = {
    "one path": lambda clock: [publisher(b"/a", "a" * 20), publisher(b"/a", "b" * 20)],
    "above and below": lambda clock: [publisher(b"/a/b", "a" * 20), publisher(b"/a", "b" * 20)],
    "the root": lambda clock: [publisher(b"", "b" * 20), publisher(b"/a/b", "a" * 20, renewing=True)],
    "one leaves": lambda clock: [leaver(b"/a", "a" * 20), publisher(b"/a", "b" * 20)],
    "one comes late": lambda clock: [publisher(b"/a", "b" * 20, renewing=True), late_comer(clock, b"/a", "a" * 20)],
}


@pytest.mark.parametrize("name", CONTENDERS)
def test_overlapping_claims_are_never_sealed_both_and_somebody_wins(name: str) -> None:
    for schedule, processes, _ in explore(CONTENDERS[name], switches=2):
        assert all(isinstance(p.error, LeaseHeld | LeaseLost | None) for p in processes), schedule
        assert any(process.result for process in processes), schedule


@pytest.mark.parametrize("name", CONTENDERS)
def test_neither_when_a_request_or_a_process_is_lost(name: str) -> None:
    for schedule, processes, _ in explore(CONTENDERS[name], switches=1, faults=FAULTS):
        for process in processes:
            assert isinstance(process.error, StratusError | None), schedule
            assert isinstance(process.error, LeaseHeld | LeaseLost | Unknown | None) or schedule.failing, schedule
        if schedule.failing is None:
            assert any(process.result for process in processes), schedule


def test_attempts_of_one_wish_supersede_each_other_and_do_not_both_seal() -> None:
    def twins(clock: SimulatedClock) -> list[Callable[[], Flow[Any]]]:
        return [publisher(b"/a", "a" * 20, request="r"), publisher(b"/a", "b" * 20, request="r", attempt=2)]

    for _ in explore(twins, switches=2):
        pass


def test_a_protocol_that_looks_before_it_writes_is_found_out() -> None:
    """What these tests would say of a mistake."""

    def careless(claim: str) -> Callable[[], Flow[Any]]:
        def start() -> Flow[str]:
            taken = yield from flows.list_keys(LAYOUT.lease(path_code.at_and_below(b"/a")))
            if taken:
                raise LeaseLost("taken")
            wish = Wish(b"/a", "writer", "host", claim)
            held = yield from _put_first(LAYOUT, _claim(wish, claim))
            yield from seal(LAYOUT, held, Seal(claim, 1), QUIET)
            return claim

        return start

    with pytest.raises(AssertionError):
        for _ in explore(lambda _: [careless("a" * 20), careless("b" * 20)], switches=1):
            pass


def _claim(wish: Wish, claim: str) -> Claim:
    return Claim(
        id=claim,
        request=wish.request,
        attempt=1,
        path="/a",
        writer="w",
        host="h",
        secret="",
        ttl=300,
        since="",
        gc=QUIET,
    )


def test_paths_that_do_not_overlap_do_not_meet() -> None:
    def strangers(clock: SimulatedClock) -> list[Callable[[], Flow[Any]]]:
        return [publisher(b"/foo", "a" * 20), publisher(b"/foobar", "b" * 20)]

    for schedule, processes, _ in explore(strangers, switches=1):
        assert [process.result for process in processes] == ["a" * 20, "b" * 20], schedule


@pytest.mark.soak
@pytest.mark.parametrize("name", CONTENDERS)
def test_more_switches_and_faults(name: str) -> None:
    for _ in explore(CONTENDERS[name], switches=3, faults=FAULTS):
        pass


@pytest.mark.soak
def test_three_contenders() -> None:
    def three(clock: SimulatedClock) -> list[Callable[[], Flow[Any]]]:
        return [publisher(b"/a", "b" * 20), publisher(b"/a/b", "a" * 20), publisher(b"", "c" * 20)]

    for schedule, processes, _ in explore(three, switches=3):
        assert any(process.result for process in processes), schedule
