"""Many flows in one process, with a bounded number of requests under way: writers that are tasks, not threads."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stratus.errors import StratusError
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Answer, Flow, Request

T = TypeVar("T")

REQUESTS = 24  # under way at once


@dataclass(slots=True)
class _Task:
    """A flow; ``turn`` is when it began, or slept last, by a count of these."""

    flow: Flow[Any]
    turn: int
    result: Any = None
    error: StratusError | None = None
    answers: list[Answer] = field(default_factory=list)
    open: int = 0  # answers that it waits for


@dataclass(frozen=True, slots=True, order=True)
class _Step:
    """One request of a task; what began first comes first, so that some get to their end while others wait."""

    turn: int
    order: int
    task: _Task = field(compare=False)
    request: Request = field(compare=False)
    index: int = field(compare=False)


class _Running:
    """The thread that has the last answer that a task waits for also drives the task, and goes on with its request."""

    def __init__(self, store: Store, begin: Iterable[Flow[Any]]) -> None:
        self._store = store
        self._order = itertools.count()
        self.tasks = [_Task(flow, next(self._order)) for flow in begin]
        self._alive = len(self.tasks)
        self._waiting: list[_Step] = []
        self._asleep: list[tuple[float, _Step]] = []
        self._mutex = threading.Lock()
        self._work = threading.Condition(self._mutex)
        self._alarm = threading.Condition(self._mutex)

    def run(self) -> None:
        for task in self.tasks:
            self._add(self._advance(task, None))
        threads = [threading.Thread(target=self._answer, daemon=True) for _ in range(REQUESTS)]
        for thread in threads:
            thread.start()
        self._wake_sleepers()
        for thread in threads:
            thread.join()

    def _answer(self) -> None:
        """What each thread does."""
        while (step := self._take()) is not None:
            task = step.task
            if isinstance(step.request, flows.Sleep):
                task.turn = next(self._order)
                task.answers[step.index] = flows.Done(None)
            else:
                task.answers[step.index] = flows.answer(step.request, self._store)
            with self._mutex:
                task.open -= 1
                is_last = not task.open
            if is_last:
                self._add(self._advance(task, tuple(task.answers)))

    def _advance(self, task: _Task, answers: tuple[Answer, ...] | None) -> Sequence[_Step]:
        """Its next requests; none if it has ended."""
        while True:
            try:
                requests = next(task.flow) if answers is None else task.flow.send(answers)
            except StopIteration as stop:
                task.result = stop.value
                return ()
            except StratusError as error:
                task.error = error
                return ()
            task.open = len(requests)
            task.answers = [flows.Done(None)] * len(requests)
            if not all(isinstance(request, flows.Now) for request in requests):
                turn, order = task.turn, next(self._order)
                return [_Step(turn, order, task, request, index) for index, request in enumerate(requests)]
            # No request is made for that.
            answers = tuple(flows.answer(request, self._store) for request in requests)

    def _add(self, steps: Sequence[_Step]) -> None:
        """What the requests of a task are, once; nothing means that it has ended."""
        with self._mutex:
            for step in steps:
                if isinstance(step.request, flows.Sleep):
                    heapq.heappush(self._asleep, (time.monotonic() + step.request.seconds, step))
                    if self._asleep[0][1] is step:
                        self._alarm.notify()
                else:
                    heapq.heappush(self._waiting, step)
            if not steps:
                self._alive -= 1
            if not self._alive:
                self._alarm.notify()
                self._work.notify_all()
            self._work.notify(max(len(steps) - 1, 0))  # this thread takes one itself

    def _take(self) -> _Step | None:
        with self._mutex:
            while not self._waiting:
                if not self._alive:
                    return None
                self._work.wait()
            return heapq.heappop(self._waiting)

    def _wake_sleepers(self) -> None:
        """Until all tasks have ended."""
        with self._mutex:
            while self._alive:
                while self._asleep and self._asleep[0][0] <= time.monotonic():
                    heapq.heappush(self._waiting, heapq.heappop(self._asleep)[1])
                    self._work.notify()
                self._alarm.wait(max(self._asleep[0][0] - time.monotonic(), 0) if self._asleep else None)


def run_tasks(begin: Iterable[Flow[T]], store: Store) -> list[T]:
    """Drives flows beside each other; raises the first error once all have ended."""
    running = _Running(store, begin)
    running.run()
    for task in running.tasks:
        if task.error is not None:
            raise task.error
    return [task.result for task in running.tasks]
