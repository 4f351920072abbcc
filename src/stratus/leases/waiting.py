"""Waiting for a lease: attempts until one succeeds, behind those who have waited for longer.

Who waits says so in the store, and says it again from time to time; the note only makes waiting fair, no safety rests
on it. It goes stale when it is not rewritten. Nothing else is kept between two attempts, so each may be made by whoever
is asked for it: the note is found again by a name that is the waiter's alone.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

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

T = TypeVar("T")

STALE = timedelta(seconds=90)
_REWRITTEN = timedelta(seconds=30)
_PAUSE = 1.0  # seconds between two attempts
_SHORTEST_PAUSE = 0.1
_NOTE = b""


def acquire_waiting(
    layout: Layout, wish: Wish, gc: Epoch, wait: float, is_gone: Callable[[str], bool] = lambda _: False
) -> Flow[Held]:
    """Acquires, again and again for ``wait`` seconds. Raises what the last attempt raised, then."""
    path = wish.path
    if path is None or wait <= 0:
        return (yield from acquire(layout, wish, gc, is_gone=is_gone))
    waiter = new_id()
    until = (yield from flows.now()) + timedelta(seconds=wait)
    for attempt in itertools.count(1):
        place = yield from find_place(layout, path, waiter)
        last = place.now >= until
        try:
            return (yield from in_turn(place, acquire(layout, wish, gc, attempt, is_gone=is_gone), last))
        except LeaseHeld:
            if last:
                raise
        pause = min(_PAUSE, max((until - place.now).total_seconds(), _SHORTEST_PAUSE))
        yield from flows.sleep(pause * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


class Place(msgspec.Struct, frozen=True):
    """Where somebody is among those who wait for paths that overlap.

    Attributes:
        ahead: how many have waited for longer.
        now: when this was so, by the store's clock.
        note: the key of what says that one waits, and when it was ``written``, if it was.
    """

    path: bytes
    ahead: int
    now: datetime
    note: str
    written: datetime | None = None


def find_place(layout: Layout, path: bytes, waiter: str) -> Flow[Place]:
    """The place of earlier attempts of the ``waiter``, a name of letters and digits; else the last one."""
    now = yield from flows.now()
    prefixes = [path_code.at_and_below(path), *map(path_code.exactly, paths.ancestors(path))]
    listed = yield from flows.together([flows.list_keys(layout.waiting(prefix)) for prefix in prefixes])
    notes = [stat for stats in listed for stat in stats]
    own = next((stat for stat in notes if _since(stat.key).endswith(f"-{waiter}")), None)
    new = layout.waiting(path_code.claim_name(path, f"{now:%Y%m%d%H%M%S}-{waiter}"))
    key = new if own is None else own.key
    ahead = sum(1 for stat in notes if _since(stat.key) < _since(key) and _is_fresh(stat, now))
    return Place(path, ahead, now, key, None if own is None else own.modified)


def in_turn(place: Place, attempt: Flow[T], last: bool) -> Flow[T]:
    """One attempt at a lease, if nobody has waited for longer or there is no further one. Raises LeaseHeld."""
    # Not by finally: a flow that is closed makes no more requests.
    try:
        if place.ahead and not last:
            raise _before(place)
        held = yield from attempt
    except LeaseHeld:
        yield from (_forget(place) if last else _keep(place))
        raise
    except StratusError:
        yield from _forget(place)
        raise
    yield from _forget(place)
    return held


def _before(place: Place) -> LeaseHeld:
    others = "somebody waits" if place.ahead == 1 else f"{place.ahead} others wait"
    return LeaseHeld(
        f"{others} for {paths.display(place.path)}, or for a path that overlaps, and came before",
        holder="",
        host="",
        expires=None,
        hint="wait for longer, or lease a path that does not overlap",
    )


def _keep(place: Place) -> Flow[None]:
    if place.written is None or place.now - place.written > _REWRITTEN:
        yield from flows.put(place.note, _NOTE)


def _forget(place: Place) -> Flow[None]:
    """A note that stays goes stale."""
    if place.written is not None:
        with contextlib.suppress(StoreError):
            yield from flows.delete([place.note])


def _since(key: str) -> str:
    return key.replace("/", "").rpartition("!!")[2]


def _is_fresh(stat: Stat, now: datetime) -> bool:
    return now - stat.modified < STALE
