"""Committing: an event says that something may wait in the queue; whoever finds the lock free folds it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from stratus.commit import locking
from stratus.commit.committing import Budget, Committed, Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.costs.prices import GIB
from stratus.errors import NoSuchRepository
from stratus.formats import records
from stratus.formats.manifest import Manifest
from stratus.formats.records import Settings
from stratus.formats.trusted import verify_manifest
from stratus.functions.asked import layout_of
from stratus.functions.contract import Context, Event, Reply
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.trust.keys import RepositoryKeys

_OF_MEMORY = (
    16  # part of the memory that packed change sets of one round may take; unpacked they are ten times as large
)
_PER_SECOND = 20  # change sets that are folded on a slow machine
_MOST = 500
_LONGER = 1.5  # times the longest round so far is what the next one may take
_REST = 5.0  # seconds that are left to what follows the rounds
_ATTEMPTS = 3  # at what could not be tidied up, before it is left to the next minute


def commit_queue(event: Event, context: Context) -> Reply:
    """``commit``: until nothing waits, or the time is used up. Nothing happens if somebody else commits.

    Raises StoreError, Untrusted, NotPermitted without keys; the next commit goes on from there.
    """
    layout = layout_of(event)
    store = context.stores(layout.fqrn)
    seen, settings = flows.run(flows.both(locking.look(layout), flows.find(layout.settings)), store)
    if settings is None:
        raise NoSuchRepository(f"there is no repository {layout.fqrn} here", hint="check the name and the URL")
    if not seen.is_free(store.now(), context.is_gone):
        return _reply(layout, Committed())
    tree = tree_of(layout, records.parse(settings.data, Settings), context)
    budget = Budget(
        change_sets=max(min(int(context.seconds_left * _PER_SECOND), _MOST), 1),
        bytes=max(context.memory // _OF_MEMORY, 1),
        over=_Clock(lambda: context.seconds_left),
        pause=_half_of(context),
    )
    committer = Committer(
        layout,
        tree,
        context.process,
        context.is_gone,
        lambda: context.meter.requests,
        budget,
        context.memory / GIB,
    )
    done = flows.run(commit(committer, seen), store)
    if done.trouble:
        context.log.warning("%s: %s", layout.fqrn, done.trouble)
    return _reply(layout, done, event)


def tree_of(layout: Layout, settings: Settings, context: Context) -> RepositoryTree:
    """What is committed to, with the repository's own keys. Raises NotPermitted, UsageError."""
    keys = context.secrets.repository_keys(layout.fqrn)
    return RepositoryTree(layout, settings, verifier(keys), keys.sign_manifest, context.recent(layout.fqrn))


def verifier(keys: RepositoryKeys) -> Callable[[bytes], Manifest]:
    """What checks the manifests that the owner of the keys signed."""
    return lambda data: verify_manifest(data, keys.certificate, keys.fqrn)


def _half_of(context: Context) -> Callable[[], bool]:
    """Whether half of the time is used up: the other half is for storing what was made."""
    half = context.seconds_left / 2
    return lambda: context.seconds_left < half


class _Clock(msgspec.Struct):
    """Called after each round: whether the next one may not fit any more."""

    seconds_left: Callable[[], float]
    begun: float = 0.0
    longest: float = 0.0

    def __post_init__(self) -> None:
        self.begun = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        self.longest = max(self.longest, now - self.begun)
        self.begun = now
        return self.seconds_left() < _LONGER * self.longest + _REST


def _reply(layout: Layout, done: Committed, event: Event | None = None) -> Reply:
    body = {
        "revisions": done.revisions,
        "receipts": sorted(done.receipts),
        "more": done.more,
        "trouble": done.trouble,
    }
    follow_ups: list[Event] = []
    if event is not None and done.more:
        follow_ups.append(replace(event, attempt=1))
    elif event is not None and done.trouble and event.attempt < _ATTEMPTS:
        follow_ups.append(replace(event, attempt=event.attempt + 1))
    if done.revisions:
        newest = max(done.receipts.values(), key=lambda receipt: (receipt.revision, receipt.root))
        parameters = {"revision": str(newest.revision), "root": newest.root}
        follow_ups.append(Event("notify", f"notify-{newest.revision}", layout.fqrn, parameters))
    return Reply(200, json.dumps(body).encode(), follow_ups=tuple(follow_ups))
