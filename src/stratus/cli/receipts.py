"""Receipts and forecasts on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import msgspec

from stratus.cli.printing import bytes_, plural, print_json, seconds, text
from stratus.formats import paths
from stratus.formats.changes import Change, Put, Remove
from stratus.formats.receipt import Receipt
from stratus.writers.contract import Forecast


def print_receipt(receipt: Receipt, as_json: bool) -> None:
    """For people what was done and what it took; for programs the receipt itself."""
    if as_json:
        print(receipt.pack().decode())
        return
    _print_warnings(receipt.warnings)
    took = receipt.seconds.ingest + receipt.seconds.queue + receipt.seconds.commit
    tag = f" ({receipt.tag})" if receipt.tag else ""
    print(f"revision {receipt.revision}{tag} of {receipt.repository} in {seconds(took)}")
    _print_counts(receipt)


def print_forecast(forecast: Forecast, as_json: bool) -> None:
    """What would change, path by path, and what that would take."""
    changes = list(_changes(forecast.changes))
    if as_json:
        counts = {
            name: msgspec.to_builtins(getattr(forecast, name))
            for name in ("entries", "objects", "bytes", "requests", "cost", "warnings")
        }
        print_json({"changes": [{"change": word, "path": paths.display(path)} for word, path in changes], **counts})
        return
    _print_warnings(forecast.warnings)
    for word, path in changes:
        print(f"{word:<6}  {text(path) or '/'}")
    print("nothing was published; it would be:")
    _print_counts(forecast)


def _changes(changes: Iterable[Change]) -> Iterator[tuple[str, bytes]]:
    for change in changes:
        if isinstance(change, Put):
            yield "put", change.entry.path
        elif isinstance(change, Remove):
            yield "remove", change.path


def _print_warnings(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _print_counts(counted: Receipt | Forecast) -> None:
    entries = counted.entries
    if any((entries.added, entries.changed, entries.removed)):
        print(f"  entries   {entries.added:,} added, {entries.changed:,} changed, {entries.removed:,} removed")
    if counted.objects.new or counted.objects.present:
        print(f"  objects   {counted.objects.new:,} new, {counted.objects.present:,} were there already")
    volumes = counted.bytes
    if volumes.plain:
        saved = 100 * (1 - volumes.uploaded / volumes.plain)
        print(
            f"  bytes     {bytes_(volumes.plain)} of content, {bytes_(volumes.stored)} as objects, "
            f"{bytes_(volumes.uploaded)} uploaded ({max(saved, 0):.0f} % saved)"
        )
    requests = counted.requests
    asked = requests.get + requests.head
    written = requests.put + requests.list + requests.delete
    print(
        f"  requests  {plural(asked, 'read')} and {plural(written, 'write')} "
        f"(on S3 {counted.cost.amount:.6f} {counted.cost.currency}, {counted.cost.sheet})"
    )
