"""Runs flows against each other on a simulated store, one request at a time, under every schedule within bounds.

Generators cannot be copied, so a schedule is replayed from the start: it says after which requests another process
goes on, and where something fails. ``schedules`` enumerates them; whoever uses it checks what must hold after each
request and at the end::

    for schedule in schedules(requests=20, processes=2, switches=2, faults=(Fault.LOSE, Fault.DIE)):
        run(schedule, [process_a, process_b], store, after_each=check)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

from stratus.errors import StratusError, Unknown
from stratus.stores import flows
from stratus.stores.contract import Always
from stratus.stores.flows import Answer, Done, Flow, Now, PutOne, Request, Send, Sleep, Sync
from stratus.stores.memory import MemoryStore


class Fault(Enum):
    """What happens to one request.

    A write that is LATE has no answer and takes effect after everything else: the longest that a network may hold it
    back.
    """

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
    running = [Process(start()) for start in processes]
    world = _World(store, clock, schedule.fault)
    for process in running:
        world.advance(process)
    current = schedule.first
    while alive := [process for process in running if not process.ended]:
        process = running[current % len(running)]
        if process.ended:
            current += 1
            continue
        world.step(process)
        after_each()
        if process.slept or (world.count - 1 in schedule.switches and len(alive) > 1):
            process.slept = False
            current += 1
    for late in world.late:
        late()
        after_each()
    return running


@dataclass(slots=True)
class _World:
    store: MemoryStore
    clock: SimulatedClock
    fault: tuple[int, Fault] | None
    count: int = 0
    late: list[Callable[[], None]] = field(default_factory=list)

    def advance(self, process: Process) -> None:
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

    def step(self, process: Process) -> None:
        """Makes the process's next request."""
        request = process.requests[len(process.answers)]
        fault = self.fault[1] if self.fault is not None and self.fault[0] == self.count else None
        self.count += 1
        if fault is Fault.DIE:
            self._end(process)
            return
        if fault is Fault.LATE and _is_write(request):
            self.late.append(lambda: self._land(request))
            answer = _no_answer(request)
        else:
            answer = flows.answer(request, self.store)
            if fault in (Fault.LOSE, Fault.LATE):
                answer = _no_answer(request)
        if fault is Fault.DIE_AFTER:
            self._end(process)
            return
        process.answers.append(answer)
        self.advance(process)

    def _land(self, request: Request) -> None:
        flows.answer(request, self.store)

    def _end(self, process: Process) -> None:
        process.flow.close()
        process.ended = True


def _is_write(request: Request) -> bool:
    return isinstance(request, PutOne | Send | flows.Delete)


def _no_answer(request: Request) -> Answer:
    """What a process sees of a request whose answer is lost."""
    if isinstance(request, flows.Delete):
        return Done(set())
    if isinstance(request, Send) or (isinstance(request, PutOne) and not isinstance(request.when, Always)):
        return Unknown("no answer came")
    return StratusError("no answer came")
