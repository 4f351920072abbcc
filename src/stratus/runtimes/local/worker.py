"""A worker: a process that runs one function, one event after another, within its memory.

What costs time to get stays between events: libraries, stores with their connections, catalogs, keys.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from stratus.costs.meter import Meter
from stratus.errors import NoSuchRepository
from stratus.functions.contract import Context, Event, Handler, Reply
from stratus.leases.process_mark import has_ended, this_process
from stratus.memory import spare
from stratus.repository.recent import Recent
from stratus.runtimes.local import replies
from stratus.runtimes.local.budgets import Budget
from stratus.stores.contract import Store
from stratus.stores.opening import open_store
from stratus.trust.secrets import EachItsOwn, FileSecrets, Secrets, open_secrets

GRACE = 2.0  # seconds that a function may be late before it is killed
_RECENT = 8  # what part of the memory catalogs may take that are kept


@dataclass(frozen=True, slots=True)
class Place:
    """Where one repository is: its store, and the directory of its keys, or the text that ``open_secrets`` takes."""

    store: str
    keys: Path | str


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is there for.

    Attributes:
        function: its name.
        handler: ``module:name`` of the Handler.
        places: of all repositories, by name.
        instance: if there is one, only processes of the same instance are asked whether they have ended: containers
            may look the same from inside.
    """

    function: str
    handler: str
    budget: Budget
    places: Mapping[str, Place]
    instance: str = ""


class Desk:
    """What a worker keeps between events."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._stores: dict[str, Store] = {}
        self._recent: dict[str, Recent] = {}
        self._secrets = secrets_of(task.places)
        self._log = logging.getLogger(f"stratus.functions.{task.function}")
        self._process = f"{this_process()} {task.instance}".strip()
        module, _, name = task.handler.partition(":")
        self._handler = cast(Handler, getattr(importlib.import_module(module), name))

    def handle(self, event: Event) -> tuple[Reply, bool]:
        """The reply, and whether this process is still good for more."""
        task = self._task
        try:
            return self._handler(event, self._context()), True
        except Exception as error:
            if _is_memory(error):
                self._log.error("%s of %s: out of memory", event.kind, event.repository)
                return replies.out_of_memory(task.function, task.budget.memory), False
            self._log.exception("%s of %s failed", event.kind, event.repository)
            return replies.failed(task.function, error), True

    def _context(self) -> Context:
        meter = Meter()
        budget = self._task.budget
        return Context(
            stores=lambda fqrn: self._store(fqrn).observed(meter),
            secrets=self._secrets,
            deadline=time.monotonic() + budget.seconds,
            memory=budget.memory,
            log=self._log,
            meter=meter,
            process=self._process,
            is_gone=self._is_gone,
            recent=self._recent_of,
        )

    def _is_gone(self, mark: str) -> bool:
        return mark.endswith(self._task.instance) and has_ended(mark)

    def _store(self, fqrn: str) -> Store:
        if fqrn not in self._stores:
            place = self._task.places.get(fqrn)
            if place is None:
                raise NoSuchRepository(f"no repository {fqrn} is served here", hint="check its name")
            self._stores[fqrn] = open_store(place.store)
        return self._stores[fqrn]

    def _recent_of(self, fqrn: str) -> Recent:
        share = self._task.budget.memory // _RECENT // max(1, len(self._task.places))
        return self._recent.setdefault(fqrn, Recent(share))


def secrets_of(places: Mapping[str, Place]) -> Secrets:
    """The secrets of all of them; one provider is asked once for those that share it."""
    keys = {place.keys for place in places.values()}
    opened = {one: FileSecrets(one) if isinstance(one, Path) else open_secrets(one) for one in keys}
    return EachItsOwn({fqrn: opened[place.keys] for fqrn, place in places.items()})


def main(descriptor: int) -> None:
    """Works in this process until the supervisor hangs up."""
    from multiprocessing.connection import Connection

    for number in (signal.SIGINT, signal.SIGTERM):  # the supervisor hears of it too, and ends us
        signal.signal(number, signal.SIG_IGN)
    with Connection(descriptor) as connection, contextlib.suppress(EOFError, ConnectionError):
        task = connection.recv()
        resource.setrlimit(resource.RLIMIT_DATA, (task.budget.memory, task.budget.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        spare()
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        desk = Desk(task)
        connection.send(None)
        good = True
        while good:
            event = connection.recv()
            with _no_orphan(task.budget):
                reply, good = desk.handle(event)
            connection.send((reply, good))
    os._exit(0)  # without waiting for threads that a function left


@contextlib.contextmanager
def _no_orphan(budget: Budget) -> Iterator[None]:
    """Ends this process should it take too long and nobody is there any more to kill it."""
    signal.setitimer(signal.ITIMER_REAL, budget.seconds + 2 * GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _is_memory(error: BaseException | None) -> bool:
    """Whether this, or what it came from, is that there is no memory, or none for a thread."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
