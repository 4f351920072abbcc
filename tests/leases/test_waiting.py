from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratus.errors import LeaseHeld
from stratus.formats.claim import Epoch
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held, release
from stratus.leases.waiting import acquire_waiting
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, Process, SimulatedClock, Simulation
from tests.commit.worlds import seed_ids

LAYOUT = Layout("test.example.org")
QUIET = Epoch(0, "quiet")


def simulation() -> Simulation:
    clock = SimulatedClock()
    return Simulation(MemoryStore(clock=clock), clock)


def waiting(path: bytes, who: str, wait: float = 1000) -> Flow[Held]:
    return acquire_waiting(LAYOUT, Wish(path, who, "host", "secret", ttl=7200), QUIET, wait)


def taken(cloud: Simulation, path: bytes) -> Held:
    """Somebody's lease."""
    return flows.run(acquire(LAYOUT, Wish(path, "first", "host", "secret", ttl=7200), QUIET), cloud.store)


def until_it_waits(cloud: Simulation, process: Process) -> None:
    before = notes(cloud)
    while notes(cloud) == before:
        cloud.step(process)


def notes(cloud: Simulation) -> int:
    return len(list(cloud.store.list(LAYOUT.waiting(""))))


@pytest.fixture(autouse=True, scope="module")
def ids() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        seed_ids(patch)
        yield


@settings(max_examples=25, deadline=None)
@given(data=st.data(), paths=st.lists(st.sampled_from([b"/a", b"/a/b", b""]), min_size=2, max_size=4))
def test_who_has_waited_longest_is_next(data: st.DataObject, paths: list[bytes]) -> None:
    cloud = simulation()
    first = taken(cloud, b"/a/b")
    order: list[int] = []

    def one(index: int) -> Flow[None]:
        held = yield from waiting(paths[index], str(index))
        order.append(index)
        yield from flows.sleep(data.draw(st.sampled_from([0, 1, 5])))
        yield from release(LAYOUT, held)

    processes = []
    for index in range(len(paths)):
        process = cloud.start(one(index))
        until_it_waits(cloud, process)
        cloud.clock.advance(1)
        processes.append(process)
    flows.run(release(LAYOUT, first), cloud.store)
    while alive := [process for process in processes if not process.ended]:
        for process in data.draw(st.permutations(alive)):
            cloud.step(process)
    assert order == sorted(order)
    assert notes(cloud) == 0


def test_who_died_while_waiting_holds_nobody_up_for_long() -> None:
    cloud = simulation()
    held = taken(cloud, b"/a")
    dying, other = cloud.start(waiting(b"/a", "dying")), cloud.start(waiting(b"/a", "other"))
    until_it_waits(cloud, dying)
    cloud.clock.advance(1)
    until_it_waits(cloud, other)
    cloud.step(dying, Fault.DIE)
    assert notes(cloud) == 2
    flows.run(release(LAYOUT, held), cloud.store)
    begun = cloud.clock()
    while not other.ended:
        cloud.step(other)
    assert other.result.claim.writer == "other"
    assert (cloud.clock() - begun).total_seconds() <= 92


def test_who_waited_in_vain_is_told_and_leaves_no_note() -> None:
    cloud = simulation()
    taken(cloud, b"/a")
    process = cloud.start(waiting(b"/a", "other", 5))
    while not process.ended:
        cloud.step(process)
    assert isinstance(process.error, LeaseHeld)
    assert notes(cloud) == 0


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.LOSE])
def test_a_lease_that_was_won_is_kept_though_the_note_cannot_be_removed(fault: Fault) -> None:
    cloud = simulation()
    held = taken(cloud, b"/a")
    process = cloud.start(waiting(b"/a", "other"))
    until_it_waits(cloud, process)
    flows.run(release(LAYOUT, held), cloud.store)
    while not process.ended:
        deleting = isinstance(process.requests[len(process.answers)], flows.Delete)
        cloud.step(process, fault if deleting else None)
    assert process.result.claim.writer == "other"
