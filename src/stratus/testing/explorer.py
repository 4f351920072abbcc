"""Runs flows against each other on a simulated store, one request at a time, under every schedule within bounds.

Generators cannot be copied, so a schedule is replayed from the start: it says how long the turns of the processes last,
and where something fails. ``every`` has those replayed that can differ in what happens; whoever uses it checks what
must hold after each request and at the end::

    def replay(schedule):
        world = World()
        return run(schedule, [process_a, process_b], world.store, world.clock, world.check), world

    for ran, world in every(replay, processes=2, switches=2, faults=(Fault.LOSE, Fault.DIE)):
        world.check_end()

A ``Simulation`` is for those who choose themselves who makes the next request, and what becomes of it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from stratus.errors import StoreError, StratusError, Unknown
from stratus.stores import flows
from stratus.stores.contract import Always
from stratus.stores.flows import Answer, Done, Flow, Now, PutOne, Request, Send, Sleep, Sync
from stratus.stores.memory import MemoryStore

T = TypeVar("T")


class Fault(Enum):
    """What happens to one request.

    A write that is LATE has no answer and takes effect after everything else: the longest that a network may hold it
    back.
    """

    FAIL = auto()  # it was not done, no answer comes
    LOSE = auto()  # it was done, no answer comes
    LATE = auto()
    DIE = auto()  # the process ends before it
    DIE_AFTER = auto()  # the process ends once it was done


@dataclass(frozen=True, slots=True)
class Failing:
    """Which request of which process, both counted from 0, fails, and how."""

    process: int
    request: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who begins, and after how many requests each turn ends, 0 for one that ends by itself: by sleeping or ending.

    The processes take turns in their order; all turns that are not named end by themselves.
    """

    first: int = 0
    turns: tuple[int, ...] = ()
    failing: Failing | None = None


@dataclass(slots=True)
class SimulatedClock:
    """The store's clock, which moves when somebody sleeps or when it is told to."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass(slots=True)
class Process:
    """One flow that runs: its result, or the error that it ended with; neither if it died."""

    flow: Flow[Any]
    requests: tuple[Request, ...] = ()
    answers: list[Answer] = field(default_factory=list)
    ended: bool = False
    slept: bool = False  # since it was its turn: others go on
    result: Any = None
    error: StratusError | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A request that was made: in which turn, by which process.

    Attributes:
        fault: what became of it, if not what it was meant to.
        moved: the clock moved, or the process fell asleep; ``ended``: with it the process ended.
    """

    turn: int
    process: int
    request: Request
    fault: Fault | None
    moved: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """What one schedule came to."""

    schedule: Schedule
    processes: Sequence[Process]
    made: Sequence[Made]


def run(
    schedule: Schedule,
    processes: Sequence[Callable[[], Flow[Any]]],
    store: MemoryStore,
    clock: SimulatedClock,
    after_each: Callable[[], None] = lambda: None,
) -> Ran:
    """Replays one schedule to its end. A step of several requests is one after the other."""
    simulation = Simulation(store, clock)
    running = [simulation.start(start()) for start in processes]
    failing = schedule.failing
    made: list[Made] = []
    counts = [0] * len(running)
    turn, current = 0, schedule.first
    while any(not process.ended for process in running):
        process = running[current]
        process.slept = False
        lasts = schedule.turns[turn] if turn < len(schedule.turns) else 0
        begun = counts[current]
        while not (process.ended or process.slept or (lasts and counts[current] == begun + lasts)):
            hit = failing is not None and (failing.process, failing.request) == (current, counts[current])
            fault = failing.fault if failing is not None and hit else None
            request, before = process.requests[len(process.answers)], clock.time
            simulation.step(process, fault)
            after_each()
            made.append(Made(turn, current, request, fault, process.slept or clock.time != before, process.ended))
            counts[current] += 1
        turn += counts[current] > begun
        current = (current + 1) % len(running)
    while simulation.late:
        simulation.land(0)
        after_each()
    return Ran(schedule, running, made)


# -- which schedules -------------------------------------------------------------------------------------------------


def every(
    replay: Callable[[Schedule], tuple[Ran, T]], processes: int, switches: int, faults: Sequence[Fault] = ()
) -> Iterator[tuple[Ran, T]]:
    """What all schedules come to in which so many turns at most are cut short, and at most one request fails.

    Of schedules that differ in the order of requests that do not touch each other, one is replayed: the writes come in
    the same order in all of them, and every process sees the same. Reads fail in the first way that is named, which
    for them is like all others: what was lost was not read, and who ends after a read has ended after its last write.
    """
    requests = [0] * processes
    for first in range(processes):
        for ran, context in _Search(replay, first).below((), switches):
            yield ran, context
            for number in range(processes):
                requests[number] = max(requests[number], sum(made.process == number for made in ran.made))
    for first, number in itertools.product(range(processes), repeat=2):
        for request in range(requests[number]):
            reads: dict[tuple[int, ...], Sequence[Made]] = {}
            for fault in faults:
                # Who ends after its very first read has done nothing, which is like no other fault.
                others = reads if request or fault is not Fault.DIE_AFTER else {}
                yield from _Search(replay, first, Failing(number, request, fault), others).below((), switches)


@dataclass(slots=True)
class _Search(Generic[T]):
    """All schedules in which one process begins and one request fails."""

    replay: Callable[[Schedule], tuple[Ran, T]]
    first: int
    failing: Failing | None = None
    reads: dict[tuple[int, ...], Sequence[Made]] = field(default_factory=dict)  # where what failed was only a read
    known: dict[tuple[int, ...], Sequence[Made]] = field(default_factory=dict)

    def below(self, turns: tuple[int, ...], switches: int) -> Iterator[tuple[Ran, T]]:
        """With these turns, and with so many more that are cut short."""
        made = self.reads.get(turns)
        last = sys.maxsize
        if made is not None:
            last = _failed(made)  # what is cut short later was seen when this read failed in another way
        else:
            made = self._as_another(turns)
            if made is None:
                ran, context = self.replay(Schedule(self.first, turns, self.failing))
                made = ran.made
                if self.failing is None or _failed(made) < len(made):
                    yield ran, context
            at = _failed(made)
            if at < len(made) and not _is_write(made[at].request):
                self.reads[turns] = made
            self.known[turns] = made
        if switches:
            for further in _cut(turns, made, last):
                yield from self.below(further, switches - 1)

    def _as_another(self, turns: tuple[int, ...]) -> Sequence[Made] | None:
        """What is made, if it is the same as where one turn was shorter by a request; None if that is not known."""
        for turn, lasts in enumerate(turns):
            before = self.known.get((*turns[:turn], lasts - 1, *turns[turn + 1 :])) if lasts > 1 else None
            if before is None:
                continue
            start = sum(made.turn <= turn for made in before)
            mover = before[start - 1].process
            end = next((at for at in range(start, len(before)) if before[at].process == mover), None)
            if end is None:
                continue
            moved, passed = before[end], before[start:end]
            is_cut = moved.turn < len(turns) and turns[moved.turn] > 0
            if not (is_cut or moved.moved or moved.ended or any(_collide(one, moved) for one in passed)):
                return [*before[:start], replace(moved, turn=turn), *passed, *before[end + 1 :]]
        return None


def _cut(turns: tuple[int, ...], made: Sequence[Made], last: int) -> Iterator[tuple[int, ...]]:
    """The same with one more turn that is cut short, before the request ``last``, where others may go on."""
    for turn in range(len(turns), made[-1].turn + 1 if made else 0):
        of_turn = [at for at, one in enumerate(made) if one.turn == turn]
        for length, at in enumerate(of_turn[1:], 1):
            if at <= last and any(one.process != made[at].process for one in made[at:]):
                yield (*turns, *[0] * (turn - len(turns)), length)


def _failed(made: Sequence[Made]) -> int:
    """The index of the request that failed; the number of all if none did."""
    return next((at for at, one in enumerate(made) if one.fault is not None), len(made))


def _collide(one: Made, other: Made) -> bool:
    """Whether their order matters to those who made them, or to whoever looks at the store between them."""
    if one.moved:
        return True
    (reads, writes), (other_reads, other_writes) = _touched(one), _touched(other)
    return bool(writes and other_writes) or _meet(reads, other_writes) or _meet(other_reads, writes)


_Keys = tuple[str, ...]  # prefixes end with an asterisk


def _touched(made: Made) -> tuple[_Keys, _Keys]:
    """The keys that a request has read and those that it may have written."""
    if made.fault in (Fault.FAIL, Fault.DIE) or (made.fault is Fault.LATE and _is_write(made.request)):
        return (), ()
    match made.request:
        case flows.Get(key):
            return (key,), ()
        case flows.ListKeys(prefix):
            return (prefix + "*",), ()
        case flows.Missing(keys):
            return tuple(keys), ()
        case PutOne(key):
            return (), (key,)
        case flows.PutMany(items):
            return (), tuple(item.key for item in items)
        case flows.Delete(keys):
            return (), tuple(keys)
        case flows.PreparePut() | flows.PrepareDelete():
            return (), ()
        case _:
            return ("*",), ("*",)


def _meet(some: _Keys, others: _Keys) -> bool:
    return any(_matches(one, other) or _matches(other, one) for one in some for other in others)


def _matches(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


# -- one request after the other ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Simulation:
    """Processes on one store.

    Attributes:
        late: writes that were given up and may still take effect.
    """

    store: MemoryStore
    clock: SimulatedClock
    late: list[Request] = field(default_factory=list)

    def start(self, flow: Flow[Any]) -> Process:
        """A process that is about to make its first request, if it makes any."""
        process = Process(flow)
        self._advance(process)
        return process

    def step(self, process: Process, fault: Fault | None = None) -> None:
        """Makes the process's next request."""
        request = process.requests[len(process.answers)]
        if fault is Fault.DIE:
            self.kill(process)
            return
        if fault is Fault.FAIL:
            answer = _no_answer(request)
        elif fault is Fault.LATE and _is_write(request):
            self.late.append(request)
            answer = _no_answer(request)
        else:
            answer = flows.answer(request, self.store)
            if fault in (Fault.LOSE, Fault.LATE):
                answer = _no_answer(request)
        if fault is Fault.DIE_AFTER:
            self.kill(process)
            return
        process.answers.append(answer)
        self._advance(process)

    def land(self, index: int) -> None:
        """One of the late writes takes effect, or is refused."""
        flows.answer(self.late.pop(index), self.store)

    def kill(self, process: Process) -> None:
        """Ends a process between two requests."""
        process.flow.close()
        process.ended = True

    def _advance(self, process: Process) -> None:
        """Lets the flow go on with its answers, up to the next request that another process could come before."""
        while not process.ended and len(process.answers) == len(process.requests):
            try:
                if process.requests:
                    process.requests = process.flow.send(tuple(process.answers))
                else:
                    process.requests = next(process.flow)
                process.answers = []
            except StopIteration as stop:
                process.ended, process.result = True, stop.value
            except StratusError as error:
                process.ended, process.error = True, error
            while len(process.answers) < len(process.requests):
                request = process.requests[len(process.answers)]
                if not isinstance(request, Now | Sync | Sleep):
                    break
                if isinstance(request, Sleep):
                    self.clock.advance(request.seconds)
                    process.slept = True
                process.answers.append(Done(self.clock()))


def _is_write(request: Request) -> bool:
    return isinstance(request, PutOne | Send | flows.Delete)


def _no_answer(request: Request) -> Answer:
    """What a process sees of a request whose answer is lost."""
    if isinstance(request, flows.Delete):
        return Done(set())
    if isinstance(request, Send) or (isinstance(request, PutOne) and not isinstance(request.when, Always)):
        return Unknown("no answer came")
    return StoreError("no answer came")
