"""The ledger of a repository in its store, and the receipts that are not in it yet.

An object holds what was recorded of one day at one time. It is named by its content, and who reads counts each change
set once; so recording the same receipts twice, at once, or in part changes nothing. A receipt may be deleted once it
was recorded.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import date, timedelta

from stratus.costs import ledger
from stratus.costs.ledger import LedgerEntry
from stratus.errors import Changed
from stratus.formats.receipt import Receipt
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Item
from stratus.stores.flows import Flow

_ATTEMPTS = 8
_SLACK = timedelta(days=1)  # between the clock of a receipt and the store's


def record(layout: Layout, entries: Iterable[LedgerEntry]) -> Flow[int]:
    """Writes them into the ledger, one object a day; gives the number of objects."""
    days: dict[date, dict[str, LedgerEntry]] = {}
    for entry in entries:
        days.setdefault(entry.day, {})[entry.id] = entry
    items = [
        Item(layout.ledger(ledger.part_name(day, found.values())), ledger.pack(found.values()))
        for day, found in sorted(days.items())
    ]
    if items:
        yield from flows.put_many(items)
    return len(items)


def recorded(layout: Layout, since: date | None = None) -> Flow[list[LedgerEntry]]:
    """What is in the ledger, from that day (UTC) on; each change set once."""
    stats = yield from flows.list_keys(layout.ledger())
    keys = [
        stat.key for stat in stats if since is None or ledger.day_of(stat.key.removeprefix(layout.ledger())) >= since
    ]
    blobs = yield from flows.together([flows.get(key) for key in keys])
    return list({entry.id: entry for blob in blobs for entry in ledger.parse(blob.data)}.values())


def unrecorded(layout: Layout, known: Container[str], since: date | None = None) -> Flow[list[LedgerEntry]]:
    """The entries of all receipts but those of ``known`` ids, from that day (UTC) on."""
    return (yield from _read(layout, (yield from _receipts(layout, since)), known, since))[0]


def entries(layout: Layout, since: date | None = None) -> Flow[list[LedgerEntry]]:
    """What is in the ledger or has a receipt, from that day (UTC) on; each change set once."""
    for _ in range(_ATTEMPTS):
        # The receipts are listed first: one that is deleted afterwards was recorded before that.
        listed = yield from _receipts(layout, since)
        kept = yield from recorded(layout, since)
        found, gone = yield from _read(layout, listed, {entry.id for entry in kept}, since)
        if not gone:
            return kept + found
    raise Changed("receipts are deleted while they are counted", hint="try again in a moment")


def _receipts(layout: Layout, since: date | None) -> Flow[list[str]]:
    """The ids of those that can be as young as that."""
    stats = yield from flows.list_keys(layout.receipt())
    return [
        stat.key.removeprefix(layout.receipt())
        for stat in stats
        if since is None or (stat.modified + _SLACK).date() >= since
    ]


def _read(
    layout: Layout, ids: Iterable[str], known: Container[str], since: date | None
) -> Flow[tuple[list[LedgerEntry], bool]]:
    """The entries of these receipts, and whether one of them is gone."""
    wanted = [name for name in ids if name not in known]
    blobs = yield from flows.together([flows.find(layout.receipt(name)) for name in wanted])
    found = [LedgerEntry.of(Receipt.parse(blob.data), blob.modified) for blob in blobs if blob is not None]
    return [entry for entry in found if since is None or entry.day >= since], None in blobs
