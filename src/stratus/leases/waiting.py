"""Waiting for a lease: attempts until one succeeds, behind those who have waited for longer.

Who waits says so in the store, and says it again from time to time; the note only makes waiting fair, no safety rests
on it. It goes stale when it is not rewritten.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from stratus.errors import LeaseHeld, StoreError, StratusError
from stratus.formats import path_code, paths
from stratus.formats.changes import new_id
from stratus.formats.claim import Epoch
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Stat
from stratus.stores.flows import Flow

STALE = timedelta(seconds=90)
_REWRITTEN = timedelta(seconds=30)
_PAUSE = 1.0  # seconds between two attempts
_SHORTEST_PAUSE = 0.1
_NOTE = b"{}"


def acquire_waiting(
    layout: Layout, wish: Wish, gc: Epoch, wait: float, is_gone: Callable[[str], bool] = lambda _: False
) -> Flow[Held]:
    """Acquires, again and again for ``wait`` seconds. Raises what the last attempt raised, then."""
    path = wish.path
    if path is None or wait <= 0:
        return (yield from acquire(layout, wish, gc, is_gone=is_gone))
    begun = yield from flows.now()
    note = _Note(layout.waiting(path_code.claim_name(path, f"{begun:%Y%m%d%H%M%S}-{new_id()}")))
    # Not by finally: a flow that is closed makes no more requests.
    try:
        held = yield from _attempts(layout, path, wish, gc, begun + timedelta(seconds=wait), is_gone, note)
    except StratusError:
        yield from note.forget()
        raise
    yield from note.forget()
    return held


def _attempts(
    layout: Layout,
    path: bytes,
    wish: Wish,
    gc: Epoch,
    until: datetime,
    is_gone: Callable[[str], bool],
    note: _Note,
) -> Flow[Held]:
    attempt = 0
    while True:
        now = yield from flows.now()
        ahead = yield from _ahead(layout, path, note.key, now)
        if not ahead or now >= until:
            attempt += 1
            try:
                return (yield from acquire(layout, wish, gc, attempt, is_gone=is_gone))
            except LeaseHeld:
                if now >= until:
                    raise
        yield from note.keep(now)
        pause = min(_PAUSE, max((until - now).total_seconds(), _SHORTEST_PAUSE))
        yield from flows.sleep(pause * random.uniform(0.5, 1.0))


@dataclass(slots=True)
class _Note:
    """What says that somebody waits; ``written`` when it did so last. One that is not forgotten goes stale."""

    key: str
    written: datetime | None = None

    def keep(self, now: datetime) -> Flow[None]:
        if self.written is None or now - self.written > _REWRITTEN:
            yield from flows.put(self.key, _NOTE)
            self.written = now

    def forget(self) -> Flow[None]:
        if self.written is not None:
            with contextlib.suppress(StoreError):
                yield from flows.delete([self.key])


def _ahead(layout: Layout, path: bytes, own: str, now: datetime) -> Flow[int]:
    """How many wait for paths that overlap, and have done so for longer."""
    prefixes = [path_code.at_and_below(path), *map(path_code.exactly, paths.ancestors(path))]
    listed = yield from flows.together([flows.list_keys(layout.waiting(prefix)) for prefix in prefixes])
    return sum(1 for stats in listed for stat in stats if _since(stat.key) < _since(own) and _is_fresh(stat, now))


def _since(key: str) -> str:
    return key.replace("/", "").rpartition("!!")[2]


def _is_fresh(stat: Stat, now: datetime) -> bool:
    return now - stat.modified < STALE
