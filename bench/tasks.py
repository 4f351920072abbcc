"""Many flows in one process, with a bounded number of requests under way: writers that are tasks, not threads."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from stratus.errors import StratusError
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Answer, Flow, Request

T = TypeVar("T")

REQUESTS = 24  # under way at once


@dataclass(slots=True)
class _Task:
    number: int
    flow: Flow[Any]
    result: Any = None
    error: StratusError | None = None
    answers: list[Answer | None] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    """Requests of the tasks that began first are made first, so that some end while others go on.

    Attributes:
        waiting: requests for which there is no thread yet; ``asked`` are those under way, ``None`` ends a thread.
    """

    store: Store
    waiting: list[tuple[int, int, Request, int]] = field(default_factory=list)
    asked: SimpleQueue[tuple[int, Request, int] | None] = field(default_factory=SimpleQueue)
    answered: SimpleQueue[tuple[int, int, Answer]] = field(default_factory=SimpleQueue)
    asleep: list[tuple[float, int, int]] = field(default_factory=list)
    order: itertools.count[int] = field(default_factory=itertools.count)
    tasks: list[_Task] = field(default_factory=list)
    alive: int = 0
    under_way: int = 0

    def ask(self) -> None:
        """What each thread does: makes requests, until there is none."""
        while (asked := self.asked.get()) is not None:
            number, request, index = asked
            self.answered.put((number, index, flows.answer(request, self.store)))

    def advance(self, task: _Task, answers: tuple[Answer, ...] | None) -> None:
        try:
            requests = next(task.flow) if answers is None else task.flow.send(answers)
        except StopIteration as stop:
            task.result = stop.value
        except StratusError as error:
            task.error = error
        else:
            task.answers = [None] * len(requests)
            for index, request in enumerate(requests):
                if isinstance(request, flows.Sleep):
                    heapq.heappush(self.asleep, (time.monotonic() + request.seconds, task.number, index))
                elif isinstance(request, flows.Now):
                    self.under_way += 1
                    self.answered.put((task.number, index, flows.answer(request, self.store)))
                else:
                    heapq.heappush(self.waiting, (task.number, next(self.order), request, index))
            return
        self.alive -= 1

    def take(self, number: int, index: int, answer: Answer) -> None:
        task = self.tasks[number]
        task.answers[index] = answer
        answers = tuple(one for one in task.answers if one is not None)
        if len(answers) == len(task.answers):
            self.advance(task, answers)

    def run(self, begin: Iterable[Flow[Any]]) -> None:
        for flow in begin:
            self.alive += 1
            self.tasks.append(_Task(len(self.tasks), flow))
            self.advance(self.tasks[-1], None)
        while self.alive:
            while self.asleep and self.asleep[0][0] <= time.monotonic():
                _, number, index = heapq.heappop(self.asleep)
                self.take(number, index, flows.Done(None))
            while self.waiting and self.under_way < REQUESTS:
                number, _, request, index = heapq.heappop(self.waiting)
                self.asked.put((number, request, index))
                self.under_way += 1
            timeout = max(self.asleep[0][0] - time.monotonic(), 0) if self.asleep else None
            with contextlib.suppress(Empty):
                answer = self.answered.get(timeout=timeout)
                self.under_way -= 1
                self.take(*answer)


def run_tasks(begin: Iterable[Flow[T]], store: Store) -> list[T]:
    """Drives flows beside each other; raises the first error once all have ended."""
    running = _Running(store)
    threads = [threading.Thread(target=running.ask, daemon=True) for _ in range(REQUESTS)]
    for thread in threads:
        thread.start()
    try:
        running.run(begin)
    finally:
        for _ in threads:
            running.asked.put(None)
        for thread in threads:
            thread.join()
    for task in running.tasks:
        if task.error is not None:
            raise task.error
    return [task.result for task in running.tasks]
