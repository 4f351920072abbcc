"""The whole protocol, the real code, under every schedule within bounds: what must hold, and that each step is needed.

The mutants take one step out; each must be caught by the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from stratus.commit import submitting
from stratus.commit.committing import _Working
from stratus.commit.locking import SeenLock
from stratus.commit.receipts import find_receipt, write_receipts
from stratus.errors import Busy, LeaseLost, Refused
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Epoch, Seal
from stratus.formats.receipt import Receipt
from stratus.leases import acquiring, holding
from stratus.leases.holding import Held
from stratus.stores import flows
from stratus.stores.contract import ALWAYS
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, Process, Ran, Schedule, SimulatedClock, every, run
from tests.commit.dictionary import LAYOUT, DictionaryTree, new_repository
from tests.commit.worlds import Start, World, check_told, only_commits, time_passes, writer

FAULTS = (Fault.FAIL, Fault.LOSE, Fault.LATE, Fault.DIE_AFTER)
A, B, C = "a" * 20, "b" * 20, "c" * 20


def explore(
    make: Callable[[SimulatedClock], list[Start]],
    switches: int,
    faults: tuple[Fault, ...] = (),
    *,
    woken: bool = True,
) -> Iterator[tuple[World, Sequence[Process]]]:
    """Runs all schedules within these bounds, and checks everything."""

    def replay(schedule: Schedule) -> tuple[Ran, World]:
        world = World(label=schedule)
        return run(schedule, make(world.clock), world.store, world.clock, world.check), world

    for ran, world in every(replay, len(make(SimulatedClock())), switches, faults):
        faulty = ran.schedule.failing is not None
        if woken and not faulty:
            assert not world.claims("sealed"), (ran.schedule, "nobody was woken up")
        world.recover()
        world.check_end()
        check_told(world, ran.processes, faulty=faulty)
        yield world, ran.processes


def rejecting(*keys: str) -> DictionaryTree:
    return DictionaryTree(bad=lambda key: key in keys)


SCENES: dict[str, Callable[[SimulatedClock], list[Start]]] = {
    "two writers, two paths": lambda _: [writer(b"/a", A), writer(b"/b", B)],
    "two writers, one path": lambda _: [writer(b"/a", A), writer(b"/a", B)],
    "one is rejected": lambda _: [writer(b"/a", A, rejecting(B)), writer(b"/b", B, rejecting(B))],
    "committers that differ": lambda _: [writer(b"/a", A), only_commits(rejecting(A))],
    "a second committer after the lock expired": lambda clock: [
        writer(b"/a", A),
        time_passes(clock, writer(b"/b", B)),
    ],
    "a paused committer wakes up late": lambda clock: [
        writer(b"/a", A, rejecting(A)),
        time_passes(clock, only_commits()),
    ],
    "three at once": lambda _: [writer(b"/a", A), writer(b"/a/b", B), writer(b"/c", C)],
}


FEW = ("two writers, one path", "committers that differ", "a paused committer wakes up late")


@pytest.mark.parametrize("scene", SCENES)
def test_every_change_set_ends_in_one_receipt(scene: str) -> None:
    ran = 0
    for _world, processes in explore(SCENES[scene], switches=2):
        ran += 1
        assert all(p.error is None or isinstance(p.error, Busy | LeaseLost) for p in processes)
    assert ran > 80


@pytest.mark.parametrize("scene", SCENES)
def test_also_when_any_request_or_process_is_lost(scene: str) -> None:
    assert sum(1 for _ in explore(SCENES[scene], switches=0, faults=FAULTS)) > 150


@pytest.mark.parametrize("scene", FEW)
def test_also_when_it_is_lost_and_another_process_goes_on_at_any_moment(scene: str) -> None:
    assert sum(1 for _ in explore(SCENES[scene], switches=1, faults=FAULTS)) > 900


@pytest.mark.soak
@pytest.mark.parametrize("scene", [name for name in SCENES if name not in FEW])
def test_also_then_with_more_requests(scene: str) -> None:
    assert sum(1 for _ in explore(SCENES[scene], switches=1, faults=FAULTS)) > 3000


@pytest.mark.soak
@pytest.mark.parametrize("scene", FEW)
def test_also_with_a_loss_and_two_switches(scene: str) -> None:
    assert sum(1 for _ in explore(SCENES[scene], switches=2, faults=FAULTS)) > 3000


# -- mutants ---------------------------------------------------------------------------------------------------------


def violated(
    make: Callable[[SimulatedClock], list[Start]],
    switches: int,
    faults: tuple[Fault, ...] = (),
    *,
    woken: bool = True,
) -> str:
    """What is violated first; empty if nothing is, within these bounds."""
    try:
        for _ in explore(make, switches, faults, woken=woken):
            pass
    except AssertionError as error:
        return str(error)
    return ""


def both_ways(
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
    make: Callable[[SimulatedClock], list[Start]],
    switches: int,
    faults: tuple[Fault, ...] = (),
) -> str:
    """Nothing is violated as it is; gives what is without the step, under the same schedules."""
    assert violated(make, switches, faults) == ""
    mutate(monkeypatch)
    return violated(make, switches, faults)


def test_a_take_over_by_delete_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_by_delete(layout: Any, held: Held, why: str) -> Flow[bool]:
        yield from flows.delete([holding.key_of(layout, held.claim)])
        return True

    def scene(clock: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A, commits=False), time_passes(clock, writer(b"/a", B))]

    assert violated(scene, 2, woken=False) == ""
    monkeypatch.setattr(acquiring, "end", end_by_delete)
    assert "sealed, and said to be lost" in violated(scene, 2, woken=False)


def test_a_seal_without_match_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def seal_anyway(layout: Any, held: Held, submitted: Seal, gc: Epoch) -> Flow[str]:
        claim = held.claim.next("sealed", seal=submitted, gc=gc)
        yield from flows.put(holding.key_of(layout, claim), claim.pack(), ALWAYS)
        return "sealed"

    def scene(clock: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A), time_passes(clock, writer(b"/a", B))]

    assert both_ways(monkeypatch, lambda patch: patch.setattr(submitting, "seal", seal_anyway), scene, 1)


def test_a_sealed_claim_that_is_passed_over_without_its_receipt_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def decided(layout: Any, sealed: Sequence[str]) -> Flow[set[str]]:
        yield from flows.now()
        return set(sealed)

    mutate = lambda patch: patch.setattr(acquiring, "_decided", decided)  # noqa: E731
    assert "sealed both" in both_ways(monkeypatch, mutate, SCENES["two writers, one path"], 1)


def test_a_rejection_straight_to_the_receipt_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DictionaryTree.fold

    def scene(clock: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A), time_passes(clock, only_commits(rejecting(A)))]

    def mutate(patch: pytest.MonkeyPatch) -> None:
        def fold(self: DictionaryTree, head: Any, batch: Any, kept: Any, rejected: Any) -> Flow[Any]:
            for change_set in batch:
                if self.bad(change_set.id):
                    yield from write_receipts(LAYOUT, [rejection(change_set)])
            good = [change_set for change_set in batch if not self.bad(change_set.id)]
            return (yield from real(self, head, good, kept, rejected))

        patch.setattr(DictionaryTree, "fold", fold)

    assert "receipt lies" in both_ways(monkeypatch, mutate, scene, 2)


def rejection(change_set: ChangeSet) -> Receipt:
    return Receipt(
        id=change_set.id, state="rejected", repository="", path="", revision=0, root="", writer="", message=""
    )


def test_a_sub_tree_kept_after_a_lost_swap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    keeps = False
    monkeypatch.setattr(_Working, "_holds", hold_on)  # as if there were no lock

    def scene(clock: SimulatedClock) -> list[Start]:
        tree = DictionaryTree(prepared={} if keeps else None)
        return [only_commits(tree), time_passes(clock, writer(b"/a", A)), writer(b"/a", B, commits=False)]

    assert violated(scene, 1, woken=False) == ""
    keeps = True
    assert "overwritten" in violated(scene, 1, woken=False)


def hold_on(self: _Working[Any, Any], noted: SeenLock | None) -> None:
    self.lock = noted or self.lock


def test_a_receipt_that_is_looked_for_before_the_claim_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = holding.seal

    def seal_after_looking(layout: Any, held: Held, submitted: Seal, gc: Epoch) -> Flow[str]:
        receipt = yield from find_receipt(layout, held.claim.id)
        state = yield from real(layout, held, submitted, gc)
        if state == "gone" and receipt is None:
            raise LeaseLost(f"{held.claim.id} is lost")
        return state

    def scene(_: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A), only_commits()]

    faults = (Fault.LOSE,)
    mutate = lambda patch: patch.setattr(submitting, "seal", seal_after_looking)  # noqa: E731
    assert "told that it was lost" in both_ways(monkeypatch, mutate, scene, 1, faults)


def test_a_queue_entry_that_goes_though_the_claim_may_be_there_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = flows.delete

    def delete(keys: Any) -> Flow[set[str]]:
        wanted = tuple(keys)
        yield from real(wanted)
        return set(wanted)

    def scene(_: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A)]

    mutate = lambda patch: patch.setattr(flows, "delete", delete)  # noqa: E731
    assert "stays for ever" in both_ways(monkeypatch, mutate, scene, 0, (Fault.FAIL,))


def test_no_look_after_the_lock_was_given_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_again(self: _Working[Any, Any]) -> Flow[None]:
        yield from flows.now()

    def scene(_: SimulatedClock) -> list[Start]:
        return [writer(b"/a", A), writer(b"/b", B)]

    mutate = lambda patch: patch.setattr(_Working, "look_again", look_again)  # noqa: E731
    assert "woken up" in both_ways(monkeypatch, mutate, scene, 1)


def test_a_commit_ends_though_the_store_refuses_to_delete() -> None:
    class Keeping(MemoryStore):
        def delete(self, keys: Iterable[str]) -> set[str]:
            raise Refused("nothing may be deleted")

    clock = SimulatedClock()
    store = Keeping(clock=clock)
    new_repository(store)
    requests: list[None] = []

    def count() -> None:
        requests.append(None)
        assert len(requests) < 100

    (process,) = run(Schedule(), [writer(b"/a", A)], store, clock, count).processes
    assert process.result.state == "published"
