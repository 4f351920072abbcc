"""The workers of one function, and a bounded queue in front of them."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor

from stratus.functions.contract import Event, Reply
from stratus.runtimes.local import replies
from stratus.runtimes.local.process import Worker
from stratus.runtimes.local.worker import Task

_LONGEST_RETRY = 30  # seconds
_WEIGHT = 0.2  # of the newest event in the average


class Pool:
    """Workers are started when there is need for them, and kept; one that is no good any more is replaced."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._slots = asyncio.Semaphore(task.budget.workers)
        self._threads = ThreadPoolExecutor(task.budget.workers, thread_name_prefix=task.function)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._waiting = 0
        self._closed = False
        self._seconds = 0.0  # that an event takes on average

    @property
    def processes(self) -> list[int]:
        """Their process ids."""
        return [worker.pid for worker in (*self._idle, *self._busy)]

    def start(self) -> None:
        """The first worker, so that the first event need not wait for it."""
        self._idle.append(Worker(self._task))

    async def invoke(self, event: Event) -> Reply:
        """Has an event handled; 429 if too many wait already."""
        if self._slots.locked() and self._waiting >= self._task.budget.waiting:
            return replies.full(self._task.function, self._until_free())
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._closed:
                return replies.stopping()
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._handle, event)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Ends all workers; the events of those that are busy are answered as if they had died."""
        self._closed = True
        for worker in list(self._busy):
            worker.kill()
        self._threads.shutdown()
        for worker in self._idle:
            worker.close()
        self._idle.clear()

    def _handle(self, event: Event) -> Reply:
        """In a thread of its own while the worker is busy; there are as many as workers."""
        worker = self._take()
        self._busy.add(worker)
        begun = time.monotonic()
        try:
            if self._closed:  # since before it was seen to be busy
                return replies.stopping()
            return worker.ask(event)
        finally:
            self._seconds += _WEIGHT * (time.monotonic() - begun - self._seconds)
            self._busy.discard(worker)
            if worker.good:
                self._idle.append(worker)
            else:
                worker.close()

    def _take(self) -> Worker:
        """The one that was used last, if it still lives."""
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                return Worker(self._task)
            if worker.is_alive():
                return worker
            worker.good = False
            worker.close()

    def _until_free(self) -> int:
        """Seconds until who comes now would be served."""
        estimate = self._seconds * self._waiting / self._task.budget.workers
        return min(max(1, math.ceil(estimate)), _LONGEST_RETRY)
