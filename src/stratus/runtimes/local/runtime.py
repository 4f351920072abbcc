"""Events to functions, follow-ups of their replies, the schedule, and an end in order."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from msgspec.structs import replace

from stratus.errors import StratusError
from stratus.formats.changes import new_id
from stratus.functions.contract import Event, Reply
from stratus.repository.layout import Layout
from stratus.runtimes.local import replies
from stratus.runtimes.local.budgets import Budget, default_budgets, function_of
from stratus.runtimes.local.pool import Pool
from stratus.runtimes.local.worker import Place, Task
from stratus.stores.opening import open_store

Forward = Callable[[Event], Awaitable[bool]]
"""Hands an event to whoever runs it elsewhere; False if nobody took it."""
HANDLER = "stratus.functions.dispatch:dispatch"
TEND_EVERY = 60.0  # seconds
LONGEST_STOP = 30.0  # seconds that functions have to end when the runtime stops
_DIED = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.INSUFFICIENT_STORAGE)
_ATTEMPTS = 3
_ONE_BY_ONE = ("commit", "tend")  # one for a repository at a time; another one that waits does for all that come

log = logging.getLogger(__name__)


class LocalRuntime:
    """Runs the functions of some repositories on this machine, between ``start`` and ``stop``."""

    def __init__(
        self,
        places: Mapping[str, Place],
        budgets: Mapping[str, Budget] | None = None,
        handler: str = HANDLER,
        tend_every: float = TEND_EVERY,
        announce: Callable[[str], None] = lambda _: None,
        forward: Forward | None = None,
        instance: str = "",
    ) -> None:
        """``announce`` is told of each repository that has a new revision, in the event loop.

        ``tend_every`` is in seconds; 0 leaves it to a schedule elsewhere. ``forward`` has follow-ups run elsewhere,
        and is waited for before the reply leaves. ``instance``: see ``Task``.
        """
        self._places = places
        self._budgets = budgets or default_budgets()
        self._handler = handler
        self._tend_every = tend_every
        self._announce = announce
        self._forward = forward
        self._instance = instance
        self._pools: dict[str, Pool] = {}
        self._running: set[asyncio.Task[Reply]] = set()
        self._next: dict[tuple[str, str], asyncio.Task[Reply]] = {}
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._schedule: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def processes(self) -> list[int]:
        """The process ids of all workers."""
        return [pid for pool in self._pools.values() for pid in pool.processes]

    async def start(self) -> None:
        """Starts a worker for each function, and the schedule."""
        for name, budget in self._budgets.items():
            pool = self._pools[name] = Pool(Task(name, self._handler, budget, self._places, self._instance))
            pool.start()
        self._schedule = asyncio.create_task(self._keep_to_schedule())

    async def invoke(self, event: Event) -> Reply:
        """The reply to an event; its follow-ups run later. An event that was begun ends even if nobody waits for it.

        504 for a function that took too long, 507 for one that took too much memory, 502 for one that died, 429 with
        Retry-After if too many wait, 503 while the runtime stops.
        """
        return await asyncio.shield(self._begin(event))

    async def stop(self) -> None:
        """Nothing new; what runs may end, for 30 s; then all workers are ended, also if this is cancelled."""
        self._stopping = True
        if self._schedule is not None:
            self._schedule.cancel()
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=LONGEST_STOP)
        finally:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, event: Event) -> asyncio.Task[Reply]:
        """The task that handles an event, or an equal one that has not begun."""
        key = event.kind, event.repository
        if event.kind not in _ONE_BY_ONE:
            return self._spawn(event)
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = self._spawn(event)
        return waiting

    def _spawn(self, event: Event) -> asyncio.Task[Reply]:
        task = asyncio.create_task(self._handle(event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _handle(self, event: Event) -> Reply:
        if event.kind in _ONE_BY_ONE:
            key = event.kind, event.repository
            async with self._turns[key]:
                del self._next[key]
                reply = await self._ask(event)
        else:
            reply = await self._ask(event)
        for follow_up in reply.follow_ups:
            await self._pass_on(follow_up, found=event.kind == "tend")
        return reply

    async def _ask(self, event: Event) -> Reply:
        if self._stopping:
            return replies.stopping()
        return await self._pools[function_of(event, self._budgets)].invoke(event)

    async def _pass_on(self, event: Event, found: bool) -> None:
        """What ``tend`` ``found`` got lost on its way once, so it is not sent again."""
        if event.kind == "notify":
            self._announce(event.repository)
        if self._forward is None or found or not await self._forward(event):
            self._follow(event)

    def _follow(self, event: Event) -> None:
        """Nobody waits for it. Should its worker die, another one tries; after that ``tend`` finds what is left."""
        if not self._stopping:
            self._begin(event).add_done_callback(lambda task: self._note(event, task))

    def _note(self, event: Event, task: asyncio.Task[Reply]) -> None:
        if task.cancelled() or self._stopping:
            return
        error = task.exception()
        if error is None and task.result().status < HTTPStatus.BAD_REQUEST:
            return
        log.error("%s of %s: %s", event.kind, event.repository, error or task.result().body.decode(errors="replace"))
        if error is None and task.result().status in _DIED and event.attempt < _ATTEMPTS:
            self._follow(replace(event, attempt=event.attempt + 1))

    async def _keep_to_schedule(self) -> None:
        """``commit`` for what waits since an earlier life, then ``tend``, again and again if that is asked for."""
        for fqrn, place in self._places.items():
            if await asyncio.to_thread(_is_waiting, fqrn, place):
                self._follow(Event("commit", new_id(), fqrn))
        while self._tend_every:
            for fqrn in self._places:
                self._follow(Event("tend", new_id(), fqrn))
            await asyncio.sleep(self._tend_every)


def _is_waiting(fqrn: str, place: Place) -> bool:
    """Whether the queue of a repository has an entry."""
    try:
        return any(open_store(place.store).list(Layout(fqrn).queue()))
    except StratusError as error:
        log.error("%s: %s", fqrn, error)
        return False
