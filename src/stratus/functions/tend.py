"""Tending a repository, every minute: what died half-way goes on, what is over goes away.

Each task is one of several that know nothing of each other: one that fails is named in the reply, the others run all
the same. All may be killed anywhere, and run twice, at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from stratus.commit import locking
from stratus.commit.queue import list_queue
from stratus.errors import Changed, StratusError
from stratus.formats import path_code
from stratus.formats.claim import Claim
from stratus.formats.step import Step
from stratus.functions.api import commit_event
from stratus.functions.asked import layout_of
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.keeping import archive
from stratus.functions.resigning import renew_whitelist, sign_right_reflog
from stratus.leases import quotas
from stratus.leases.holding import Held, end, is_expired
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Stat, Store
from stratus.stores.flows import Flow
from stratus.trust.request_signatures import REMEMBERED

_LATEST_REQUEST = timedelta(seconds=1000)  # a signed request may land so late
_SLACK = timedelta(seconds=60)
_WAIT_LIFE = timedelta(seconds=90)
_STEP_LIFE = timedelta(days=1)  # of a step that has ended: as long as somebody may ask what became of it
_ARCHIVE_EVERY = timedelta(hours=1)
_LEAST_TIME = 3.0  # seconds that a task is worth beginning with


class _Tending(msgspec.Struct):
    """One round, and what is found on it."""

    layout: Layout
    store: Store
    context: Context
    done: dict[str, int] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    follow_ups: list[Event] = msgspec.field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        if number:
            self.done[what] = self.done.get(what, 0) + number

    def run(self, name: str, task: Callable[[_Tending], Flow[None]]) -> None:
        """Runs a task, if there is time. What it fails with is a warning."""
        if self.context.seconds_left < _LEAST_TIME:
            self.warn(f"{name}: there was no time")
            return
        try:
            flows.run(task(self), self.store)
        except StratusError as error:
            self.warn(f"{name}: {error}")

    def warn(self, text: str) -> None:
        self.context.log.warning("%s: %s", self.layout.fqrn, text)
        self.warnings.append(text)


def tend(event: Event, context: Context) -> Reply:
    """``tend``: all tasks. The reply says what was done and what could not be."""
    layout = layout_of(event)
    tending = _Tending(layout, context.stores(layout.fqrn), context)
    for name, task in _TASKS.items():
        tending.run(name, task)
    body = {"done": tending.done, "warnings": tending.warnings}
    return Reply(200, json.dumps(body).encode(), follow_ups=tuple(tending.follow_ups))


# -- leases and the queue --------------------------------------------------------------------------------------------


def _claims(tending: _Tending) -> Flow[None]:
    """Expired open claims die; dead ones go once no late request can meet them."""
    layout = tending.layout
    leases, pathless = yield from flows.both(flows.list_keys(layout.lease("")), flows.list_keys(layout.pathless("")))
    keys = [stat.key for stat in [*leases, *pathless]]
    blobs = yield from flows.together([flows.find(key) for key in keys])
    now = yield from flows.now()
    over: list[str] = []
    for key, blob in zip(keys, blobs, strict=True):
        claim = None if blob is None else Claim.parse(blob.data)
        if claim is None or blob is None:
            continue
        if claim.state == "dead" and now - blob.modified > _LATEST_REQUEST + _SLACK:
            over.append(key)
        elif is_expired(claim, blob, now) and (yield from end(layout, Held(claim, blob.version), "expired")):
            tending.count("leases expired")
    yield from _delete(tending, "claims deleted", over)


def _queue(tending: _Tending) -> Flow[None]:
    """Entries that wait for longer than anybody may hold the lock without a sign of life."""
    queue, seen = yield from flows.both(list_queue(tending.layout), locking.look(tending.layout))
    now = yield from flows.now()
    ttl = timedelta(seconds=seen.lock.ttl)
    if seen.is_free(now, tending.context.is_gone) and any(now - queued.since > ttl for queued in queue):
        tending.count("commits begun")
        tending.follow_ups.append(commit_event(tending.layout, "tend"))


def _waits(tending: _Tending) -> Flow[None]:
    """Notes of those who do not wait any more."""
    stats = yield from flows.list_keys(tending.layout.waiting(""))
    yield from _delete(tending, "waits deleted", _older(stats, (yield from flows.now()), _WAIT_LIFE))


def _staged(tending: _Tending) -> Flow[None]:
    """Uploads of leases that are over, once no grant lets more come."""
    prefix = f"{tending.layout.private}staging/"
    stats = yield from flows.list_keys(prefix)
    if not stats:
        return
    leases = yield from _leases(tending.layout)
    left = [stat for stat in stats if stat.key.removeprefix(prefix).partition("/")[0] not in leases]
    over = _older(left, (yield from flows.now()), _LATEST_REQUEST + _SLACK)
    yield from _delete(tending, "staged bodies deleted", over)


def _quotas(tending: _Tending) -> Flow[None]:
    """What does not count for anybody's quota any more."""
    markers = yield from quotas.list_markers(tending.layout)
    if not markers:
        return
    leases, now = yield from flows.both(_leases(tending.layout), flows.now())
    yield from _delete(tending, "markers of quotas deleted", quotas.stale(tending.layout, markers, leases, now))


def _leases(layout: Layout) -> Flow[set[str]]:
    """The ids of all leases whose claims are there."""
    leases, pathless = yield from flows.both(flows.list_keys(layout.lease("")), flows.list_keys(layout.pathless("")))
    return {path_code.claim_id(stat.key) for stat in [*leases, *pathless]}


# -- steps and the archive -------------------------------------------------------------------------------------------


def _steps(tending: _Tending) -> Flow[None]:
    """What is due is run; what has ended goes after a while."""
    stats = yield from flows.list_keys(f"{tending.layout.private}steps/")
    blobs = yield from flows.together([flows.find(stat.key) for stat in stats])
    now = yield from flows.now()
    over: list[str] = []
    for stat, blob in zip(stats, blobs, strict=True):
        step = None if blob is None else Step.parse(blob.data)
        if step is None or step.kind == "tend":
            continue
        if step.due is None:
            over += _older([stat], now, _STEP_LIFE)
        elif step.due <= now:
            tending.count("steps run")
            event = Event(step.kind, step.id, tending.layout.fqrn, {"id": step.id}, attempt=step.attempt)
            tending.follow_ups.append(event)
    yield from _delete(tending, "steps deleted", over)


def _archive(tending: _Tending) -> Flow[None]:
    """Receipts go into the ledger, old ones and marks of requests away, now and then: there may be many."""
    key = tending.layout.step("tend", "archive")
    now, blob = yield from flows.both(flows.now(), flows.find(key))
    due = None if blob is None else Step.parse(blob.data).due
    if due is not None and due > now:
        return
    done, more = yield from archive(tending.layout, tending.context, now)
    for what, number in done.items():
        tending.count(what, number)
    seen = yield from flows.list_keys(tending.layout.seen())
    yield from _delete(tending, "marks of requests deleted", _older(seen, now, REMEMBERED))
    step = Step(kind="tend", id="archive", due=now if more else now + _ARCHIVE_EVERY)
    yield from flows.put(key, step.pack())


# -- what is signed --------------------------------------------------------------------------------------------------


def _reflog(tending: _Tending) -> Flow[None]:
    tending.count("manifests signed", (yield from sign_right_reflog(tending.layout, tending.context)))


def _whitelist(tending: _Tending) -> Flow[None]:
    signed, warning = yield from renew_whitelist(tending.layout, tending.context)
    tending.count("whitelists signed", signed)
    if warning:
        tending.warn(warning)


_TASKS: Mapping[str, Callable[[_Tending], Flow[None]]] = {
    "claims": _claims,
    "queue": _queue,
    "steps": _steps,
    "whitelist": _whitelist,
    "reflog": _reflog,
    "waits": _waits,
    "staged": _staged,
    "quotas": _quotas,
    "archive": _archive,
}


def _older(stats: Iterable[Stat], now: datetime, age: timedelta) -> list[str]:
    return [stat.key for stat in stats if now - stat.modified > age]


def _delete(tending: _Tending, what: str, keys: list[str]) -> Flow[None]:
    if keys:
        gone = yield from flows.delete(keys)
        tending.count(what, len(gone))
        if len(gone) < len(keys):
            raise Changed(f"{len(keys) - len(gone)} of {len(keys)} keys could not be deleted")
