"""How long receipts and change sets are kept: they go into the ledger first, and away when they are old."""

from __future__ import annotations

from datetime import datetime, timedelta

from stratus.commit.folding import revised
from stratus.commit.queue import list_queue
from stratus.functions.commit import verifier
from stratus.functions.contract import Context
from stratus.repository import ledger
from stratus.repository.head import read_head
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Stat
from stratus.stores.flows import Flow

KEPT = timedelta(days=30)  # longer than anybody tries to submit the same again
_AT_ONCE = 2_000  # receipts that are recorded in one invocation
_SLACK = timedelta(days=2)  # between the day of a receipt and that of its object


def archive(layout: Layout, context: Context, now: datetime) -> Flow[tuple[dict[str, int], bool]]:
    """Records receipts that are not in the ledger; deletes what is older than ``KEPT``.

    Gives what was done, and whether there are more receipts to be recorded than fit into one invocation.

    A receipt stays as long as the newest revision names its outcome, or its queue entry is there: a commit would take
    the change set for one that has no receipt yet.
    """
    # Listed before the ledger is read, so what is deleted has been seen to be recorded.
    listed = yield from flows.list_keys(layout.receipt())
    oldest = min((stat.modified for stat in listed), default=now)
    recorded = yield from ledger.recorded(layout, (oldest - _SLACK).date())
    known = {entry.id for entry in recorded}
    receipts = {stat.key.removeprefix(layout.receipt()): stat for stat in listed}
    later = set(sorted(receipts.keys() - known)[_AT_ONCE:])
    fresh = yield from ledger.unrecorded(layout, known | later)
    yield from ledger.record(layout, fresh)
    known |= {entry.id for entry in fresh}
    changes = yield from flows.list_keys(layout.change_set(""))
    bodies = {stat.key.removeprefix(layout.change_set("")): stat for stat in changes}
    old_receipts = {name for name, stat in receipts.items() if name in known and _is_older(stat, now, KEPT)}
    old_bodies = {name for name, stat in bodies.items() if _is_older(stat, now, KEPT)}
    if old_receipts or old_bodies:
        needed = yield from _needed(layout, context)
        old_receipts -= needed
        # Without a receipt a body is left over from a submission that was given up, or its receipt went before it.
        old_bodies = {name for name in old_bodies - needed if name not in receipts or name in old_receipts}
    # Bodies first: a body without a receipt goes next time, too.
    yield from _delete(list(map(layout.change_set, sorted(old_bodies))))
    yield from _delete(list(map(layout.receipt, sorted(old_receipts))))
    done = {
        "receipts recorded": len(fresh),
        "receipts deleted": len(old_receipts),
        "change sets deleted": len(old_bodies),
    }
    return done, bool(later)


def _needed(layout: Layout, context: Context) -> Flow[set[str]]:
    """Change sets that a commit may still ask about."""
    keys = context.secrets.repository_keys(layout.fqrn)
    queue = yield from list_queue(layout)
    head = yield from read_head(layout, verifier(keys), context.recent(layout.fqrn))
    # A change set that landed since then left the queue only afterwards.
    return {queued.id for queued in queue} | set(revised(head).outcomes)


def _is_older(stat: Stat, now: datetime, age: timedelta) -> bool:
    return now - stat.modified > age


def _delete(keys: list[str]) -> Flow[None]:
    if keys:
        yield from flows.delete(keys)
