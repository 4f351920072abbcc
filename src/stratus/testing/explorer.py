"""Runs flows against each other on a simulated store, one request at a time, under every schedule within bounds.

Generators cannot be copied, so a schedule is replayed from the start: it says after which requests another process
goes on, and where something fails. ``schedules`` enumerates them; whoever uses it checks what must hold after each
request and at the end::

    for schedule in schedules(requests=20, processes=2, switches=2, faults=(Fault.LOSE, Fault.DIE)):
        run(schedule, [process_a, process_b], store, clock, after_each=check)

A ``Simulation`` is for those who choose themselves who makes the next request, and what becomes of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

from stratus.errors import StoreError, StratusError, Unknown
from stratus.stores import flows
from stratus.stores.contract import Always
from stratus.stores.flows import Answer, Done, Flow, Now, PutOne, Request, Send, Sleep, Sync
from stratus.stores.memory import MemoryStore


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
class Schedule:
    """After which requests (counted over all processes) the next process goes on, and which request fails how.

    The next process also goes on when one sleeps or ends.
    """

    first: int
    switches: tuple[int, ...] = ()
    fault: tuple[int, Fault] | None = None


def schedules(requests: int, processes: int, switches: int, faults: Sequence[Fault] = ()) -> Iterator[Schedule]:
    """All schedules with at most so many switches and at most one fault."""
    failing: list[tuple[int, Fault] | None] = [None]
    failing += [(index, fault) for index in range(requests) for fault in faults]
    for first in range(processes):
        for count in range(switches + 1):
            for chosen in itertools.combinations(range(requests), count):
                for fault in failing:
                    yield Schedule(first, chosen, fault)


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


def run(
    schedule: Schedule,
    processes: Sequence[Callable[[], Flow[Any]]],
    store: MemoryStore,
    clock: SimulatedClock,
    after_each: Callable[[], None] = lambda: None,
) -> list[Process]:
    """Replays one schedule to its end and gives the processes. A step of several requests is one after the other."""
    simulation = Simulation(store, clock)
    running = [simulation.start(start()) for start in processes]
    faults = {} if schedule.fault is None else dict([schedule.fault])
    count = 0
    current = schedule.first
    while alive := [process for process in running if not process.ended]:
        process = running[current % len(running)]
        if process.ended:
            current += 1
            continue
        simulation.step(process, faults.get(count))
        after_each()
        if process.slept or (count in schedule.switches and len(alive) > 1):
            process.slept = False
            current += 1
        count += 1
    while simulation.late:
        simulation.land(0)
        after_each()
    return running


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
