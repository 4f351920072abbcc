"""The ledger: what each change set took, kept when its receipt is gone; and its sums.

An object of the ledger is JSON, one line for each change set. A change set may be in several of them: it counts once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Literal

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.outcomes import State
from stratus.formats.receipt import Cost, Receipt, Requests

By = Literal["writer", "path", "day"]


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one change set took: ``time`` is Unix, ``bytes`` are those that were uploaded."""

    id: str
    time: int
    writer: str
    path: str
    revision: int
    state: State
    requests: Requests
    bytes: int
    gb_seconds: float
    invocations: int
    cost: Cost

    @classmethod
    def of(cls, receipt: Receipt, modified: datetime) -> LedgerEntry:
        """That of a receipt, which was written at ``modified``."""
        return cls(
            id=receipt.id,
            time=receipt.time or int(modified.timestamp()),
            writer=receipt.writer,
            path=receipt.path,
            revision=receipt.revision,
            state=receipt.state,
            requests=receipt.requests,
            bytes=receipt.bytes.uploaded,
            gb_seconds=receipt.gb_seconds,
            invocations=receipt.invocations,
            cost=receipt.cost,
        )

    @property
    def day(self) -> date:
        """UTC."""
        return datetime.fromtimestamp(self.time, UTC).date()


def part_name(day: date, entries: Iterable[LedgerEntry]) -> str:
    """What an object with these entries is called, ``<yyyy-mm>/<dd>-<digest of the ids>``: equal ones have one name."""
    ids = "\n".join(sorted(entry.id for entry in entries))
    return f"{day:%Y-%m}/{day:%d}-{hashlib.sha256(ids.encode()).hexdigest()[:20]}"


def day_of(name: str) -> date:
    """The day whose entries an object holds. Raises BadFormat."""
    try:
        return date.fromisoformat(name[:10].replace("/", "-"))
    except ValueError as error:
        raise BadFormat(f"{name!r} is no name in a ledger") from error


def pack(entries: Iterable[LedgerEntry]) -> bytes:
    """As lines of JSON in ASCII."""
    return b"".join(json.dumps(msgspec.to_builtins(entry), separators=(",", ":")).encode() + b"\n" for entry in entries)


def parse(data: bytes) -> list[LedgerEntry]:
    """Raises BadFormat."""
    try:
        return [typed.convert(json.loads(line), LedgerEntry) for line in data.splitlines()]
    except ValueError as error:
        raise BadFormat(f"not a part of a ledger: {error}") from error


class Sum(msgspec.Struct, frozen=True):
    """What several change sets took.

    Attributes:
        key: what they have in common: the writer, the path, or the day as ``2026-11-25``; of all of them "".
        uploaded: bytes.
        cost: ``sheet`` has the names of all sheets that were used.
    """

    key: str
    change_sets: int
    requests: Requests
    uploaded: int
    gb_seconds: float
    invocations: int
    cost: Cost


def summed(entries: Iterable[LedgerEntry], by: By | None = None) -> list[Sum]:
    """The sums, ordered by key; one for each currency where there are several."""
    groups: dict[tuple[str, str], list[LedgerEntry]] = {}
    for entry in {entry.id: entry for entry in entries}.values():
        key = "" if by is None else str(getattr(entry, by))
        groups.setdefault((key, entry.cost.currency), []).append(entry)
    return [_sum(key, currency, group) for (key, currency), group in sorted(groups.items())]


def _sum(key: str, currency: str, entries: list[LedgerEntry]) -> Sum:
    return Sum(
        key,
        len(entries),
        functools.reduce(Requests.plus, (entry.requests for entry in entries)),
        sum(entry.bytes for entry in entries),
        math.fsum(entry.gb_seconds for entry in entries),
        sum(entry.invocations for entry in entries),
        Cost(
            currency,
            round(math.fsum(entry.cost.amount for entry in entries), 9),
            ", ".join(sorted({entry.cost.sheet for entry in entries})),
        ),
    )
