"""The explorer leaves out schedules, but nothing that can come of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from stratus.errors import StratusError
from stratus.stores import flows
from stratus.stores.contract import ABSENT
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Failing, Fault, Ran, Schedule, SimulatedClock, every, run

FAULTS = (Fault.FAIL, Fault.LOSE, Fault.LATE, Fault.DIE_AFTER)
Step = tuple[str, str]  # what to do, and with which key or prefix
Program = tuple[Step, ...]

STEPS = st.tuples(
    st.sampled_from(["get", "put", "create", "list", "delete", "sleep"]), st.sampled_from(["a", "b", "c"])
)
PROGRAMS = st.lists(st.lists(STEPS, min_size=1, max_size=4).map(tuple), min_size=2, max_size=3)


@dataclass
class Witness:
    """What can be noticed of a run: what every process saw, and all states of the store, one after another."""

    store: MemoryStore
    seen: list[list[str]]
    states: list[tuple[tuple[str, bytes], ...]]

    def look(self) -> None:
        state = tuple((stat.key, self.store.get(stat.key).data) for stat in self.store.list(""))
        if not self.states or state != self.states[-1]:
            self.states.append(state)

    def all(self) -> str:
        return repr((self.seen, self.states))


def process(number: int, program: Program, seen: list[str]) -> Flow[None]:
    for index, (what, key) in enumerate(program):
        data = b"%d.%d" % (number, index)
        try:
            match what:
                case "get":
                    found = yield from flows.find(key)
                    seen.append(repr(found))
                case "list":
                    seen.append(repr((yield from flows.list_keys(""))))
                case "put":
                    yield from flows.put(key, data)
                case "create":
                    yield from flows.put(key, data, ABSENT)
                case "delete":
                    yield from flows.delete([key])
                case _:
                    yield from flows.sleep(3)
        except StratusError as error:
            seen.append(type(error).__name__)


def replay(programs: Sequence[Program], schedule: Schedule) -> tuple[Ran, str]:
    clock = SimulatedClock()
    store = MemoryStore(clock=clock)
    witness = Witness(store, [[] for _ in programs], [])
    starts = [
        lambda number=number, program=program: process(number, program, witness.seen[number])
        for number, program in enumerate(programs)
    ]
    ran = run(schedule, starts, store, clock, witness.look)
    for made in ran.made:
        if made.fault is Fault.DIE_AFTER:
            witness.seen[made.process].clear()  # nobody will hear of it
    return ran, witness.all()


def without_leaving_out(programs: Sequence[Program], switches: int, faults: Sequence[Fault]) -> Iterator[str]:
    count = max(map(len, programs))
    turns = sum(map(len, programs))
    failing: list[Failing | None] = [None]
    failing += [Failing(*which) for which in itertools.product(range(len(programs)), range(count), faults)]
    for first, fault in itertools.product(range(len(programs)), failing):
        for lengths in itertools.product(range(count), repeat=turns):
            if sum(map(bool, lengths)) <= switches:
                yield replay(programs, Schedule(first, lengths, fault))[1]


def outcomes(programs: Sequence[Program], switches: int, faults: Sequence[Fault]) -> tuple[set[str], int]:
    ran = [seen for _, seen in every(lambda one: replay(programs, one), len(programs), switches, faults)]
    return set(ran), len(ran)


@settings(max_examples=150, deadline=None)
@given(PROGRAMS)
def test_whatever_can_happen_between_processes_is_seen(programs: list[Program]) -> None:
    short = [program[:3] for program in programs[:2]]
    assert outcomes(short, 2, ())[0] == set(without_leaving_out(short, 2, ()))


@settings(max_examples=100, deadline=None)
@given(PROGRAMS)
def test_whatever_a_fault_can_do_is_seen(programs: list[Program]) -> None:
    short = [program[:2] for program in programs[:2]]
    assert outcomes(short, 1, FAULTS)[0] == set(without_leaving_out(short, 1, FAULTS))


@settings(max_examples=60, deadline=None)
@given(PROGRAMS)
def test_so_it_is_among_three(programs: list[Program]) -> None:
    short = [program[:2] for program in [*programs, programs[0]][:3]]
    assert outcomes(short, 1, ())[0] == set(without_leaving_out(short, 1, ()))


def test_readers_that_nobody_disturbs_are_run_in_one_order() -> None:
    programs: list[Program] = [(("get", "a"),) * 10, (("get", "b"),) * 10]
    assert outcomes(programs, 2, ())[1] < 30
