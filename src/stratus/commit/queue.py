"""The queue: one empty object per change set that waits, named as its claim is.

An entry is a hint. It is there before the claim is sealed and until the receipt is, so whoever lists the queue sees
every change set that still has to be decided.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from stratus.formats import path_code
from stratus.formats.claim import Claim
from stratus.leases.holding import path_of
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Stat
from stratus.stores.flows import Flow

ENTRY = b""
_PATHLESS = "@!!"


class Queued(msgspec.Struct, frozen=True):
    """An entry: of which change set, the keys of the entry and of the claim, and when it was put."""

    id: str
    key: str
    claim: str
    since: datetime


def entry_key(layout: Layout, claim: Claim) -> str:
    """Where the queue entry of a claim is."""
    name = _PATHLESS + claim.id if claim.path is None else path_code.claim_name(path_of(claim), claim.id)
    return layout.queue(name)


def list_queue(layout: Layout) -> Flow[list[Queued]]:
    """All entries, the oldest first."""
    stats = yield from flows.list_keys(layout.queue())
    return [_queued(layout, stat) for stat in sorted(stats, key=lambda stat: (stat.modified, stat.key))]


def _queued(layout: Layout, stat: Stat) -> Queued:
    name = stat.key.removeprefix(layout.queue())
    change_set = name.replace("/", "").rpartition("!!")[2]
    claim = layout.pathless(change_set) if name.startswith(_PATHLESS) else layout.lease(name)
    return Queued(change_set, stat.key, claim, stat.modified)
