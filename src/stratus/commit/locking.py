"""The committer's lock: a hint who commits, that saves the others the work. Two holders do no harm.

It also remembers which change sets were being folded when a holder died, so that one that kills its committers is
found and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import msgspec

from stratus.errors import Changed, Unknown
from stratus.formats import records
from stratus.formats.records import Lock, new_nonce
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Match, Version
from stratus.stores.flows import Flow

IsGone = Callable[[str], bool]
"""Whether a process, by the mark that it left in a claim or in the lock, is known to have ended."""
TTL = 60  # seconds, unless a batch is known to take longer
_SLACK = timedelta(seconds=2)  # twice the grain of the store's times
_MOST_DEATHS = 3  # of committers that folded a change set alone


class SeenLock(msgspec.Struct, frozen=True):
    """The lock as it was read or written last."""

    lock: Lock
    version: Version
    modified: datetime

    def is_free(self, now: datetime, is_gone: IsGone) -> bool:
        """Whether anybody may take it; ``now`` is the store's clock."""
        lock = self.lock
        return not lock.held or now - self.modified > timedelta(seconds=lock.ttl) + _SLACK or is_gone(lock.owner)


def look(layout: Layout) -> Flow[SeenLock]:
    """The lock as it is now."""
    blob = yield from flows.get(layout.lock)
    return SeenLock(records.parse(blob.data, Lock), blob.version, blob.modified)


def take(layout: Layout, seen: SeenLock, owner: str) -> Flow[SeenLock | None]:
    """One try to take a lock that was found free; None if somebody else was faster."""
    deaths, alone = dict(seen.lock.deaths), dict(seen.lock.alone)
    if seen.lock.held:
        for change_set in seen.lock.batch:
            deaths[change_set] = deaths.get(change_set, 0) + 1
            if len(seen.lock.batch) == 1:
                alone[change_set] = alone.get(change_set, 0) + 1
    fresh = {"held": True, "owner": owner, "ttl": TTL, "batch": ()}
    return (yield from _write(layout, seen, **fresh, deaths=deaths, alone=alone))


def note(
    layout: Layout, held: SeenLock, batch: Collection[str], seconds: int, queue: Collection[str]
) -> Flow[SeenLock | None]:
    """Says what is being folded and keeps the lock so long; None if somebody else has it.

    Deaths of what is not in the queue any more are forgotten.
    """
    deaths = {change_set: count for change_set, count in held.lock.deaths.items() if change_set in queue}
    alone = {change_set: count for change_set, count in held.lock.alone.items() if change_set in queue}
    noted = yield from _write(layout, held, batch=tuple(sorted(batch)), ttl=seconds, deaths=deaths, alone=alone)
    if noted is not None:
        return noted
    # A note that got lost does not end the hold.
    found = yield from look(layout)
    return found if found.lock.nonce == held.lock.nonce else None


def free(layout: Layout, held: SeenLock) -> Flow[None]:
    """Gives the lock up; nothing happens if somebody else has it already."""
    yield from _write(layout, held, held=False, owner="", batch=())


def suspects(lock: Lock, waiting: Sequence[str]) -> tuple[Sequence[str], bool]:
    """Which of the change sets that wait may be folded together, and whether that one is too heavy for anybody.

    After a holder died, only those with most deaths, half of them: the one that kills is found by halving.
    """
    most = max((lock.deaths.get(change_set, 0) for change_set in waiting), default=0)
    if not most:
        return waiting, False
    worst = [change_set for change_set in waiting if lock.deaths.get(change_set, 0) == most]
    if len(worst) > 1:
        return worst[: len(worst) // 2], False
    return worst, lock.alone.get(worst[0], 0) >= _MOST_DEATHS


def _write(layout: Layout, seen: SeenLock, **changes: object) -> Flow[SeenLock | None]:
    """Writes the lock over the version seen; None if that is not the newest, or it was not seen to land."""
    lock = msgspec.structs.replace(seen.lock, **changes, nonce=new_nonce(), gen=seen.lock.gen + 1)
    try:
        version = yield from flows.put(layout.lock, records.pack(lock), Match(seen.version))
        return SeenLock(lock, version, (yield from flows.now()))
    except Changed:
        return None
    except Unknown:
        found = yield from look(layout)
        return found if found.lock.nonce == lock.nonce else None
