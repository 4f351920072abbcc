"""The audit trail: what is written into it, and reading it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from stratus.errors import StratusError, UsageError
from stratus.formats import records
from stratus.formats.audit import AuditEntry, months
from stratus.formats.paths import check_fqrn
from stratus.formats.records import Settings
from stratus.functions.contract import Event, Reply
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Store
from stratus.stores.flows import Flow

REFUSALS_A_MINUTE = 60  # of one repository in one process; the rest are counted
CHANGES = frozenset(("lease.acquire", "lease.release", "lease.break", "lease.grants", "submit"))
_REFUSED = frozenset((401, 403, 413, 429))  # of every kind of request; of those in CHANGES all but _WAITS
_WRONG = 400  # an upload of other bytes than were granted
_WAITS = 409  # somebody else holds what is needed: the writer asks again
_SETTINGS_FOR = 60.0  # seconds that settings are remembered
_AT_ONCE = 500  # entries that are read in one step

_log = logging.getLogger(__name__)


def entry_of(event: Event, reply: Reply, host: str, now: datetime) -> AuditEntry | None:
    """What the trail says of a request; None if it is nothing for it."""
    changes = event.kind in CHANGES and reply.status != _WAITS
    wrong = event.kind == "upload" and reply.status == _WRONG
    if not changes and not wrong and reply.status not in _REFUSED:
        return None
    asked = _json(event.body) if event.kind == "lease.acquire" else {}
    said = _json(reply.body)
    path = event.parameters.get("path", asked.get("path"))
    identity = None if event.caller is None else event.caller.identity
    return AuditEntry(
        time=now,
        kind=event.kind,
        status=reply.status,
        code=str(said.get("code", "")) if reply.status >= 400 else "",
        detail=_detail(event.kind, said) if reply.status < 400 else str(said.get("detail", "")),
        writer="" if identity is None else identity.writer,
        identity="" if identity is None else identity.id,
        proof="" if identity is None else identity.proof,
        host=host,
        id=event.parameters.get("id") or str(said.get("id", "")),
        path=path if isinstance(path, str) else None,
    )


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _detail(kind: str, said: dict[str, Any]) -> str:
    if kind == "lease.grants":
        return f"{len(said.get('grants', ()))} granted, {len(said.get('present', ()))} present"
    return str(said.get("state", "")) if kind == "submit" else ""


def record(layout: Layout, entry: AuditEntry) -> Flow[None]:
    """Writes an entry, once."""
    yield from flows.put(layout.audit(entry.name()), entry.pack(), ABSENT)


def read(layout: Layout, since: datetime) -> Flow[list[AuditEntry]]:
    """All entries since then, the oldest first."""
    now = yield from flows.now()
    listed = yield from flows.together([flows.list_keys(layout.audit(month)) for month in months(since, now)])
    first = layout.audit(f"{since.astimezone(UTC):%Y-%m/%Y%m%dT%H%M%S}")
    keys = sorted(stat.key for stats in listed for stat in stats if stat.key >= first)
    entries: list[AuditEntry] = []
    for begin in range(0, len(keys), _AT_ONCE):
        blobs = yield from flows.together([flows.find(key) for key in keys[begin : begin + _AT_ONCE]])
        entries += [AuditEntry.parse(blob.data) for blob in blobs if blob is not None]
    return [entry for entry in entries if entry.time >= since]


class _Known(msgspec.Struct):
    """Of one repository: what is to be written, and the refusals of this minute."""

    wanted: str = "all"
    until: float = 0.0
    minute: int = 0
    refusals: int = 0
    others: int = 0


class Auditor:
    """Writes the trail of what is asked by HTTP; thread-safe.

    It never fails: what cannot be written is logged.
    """

    def __init__(
        self,
        stores: Callable[[str], Store],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``stores`` raises NoSuchRepository."""
        self._stores = stores
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def entry_of(self, event: Event, reply: Reply, host: str) -> tuple[str, AuditEntry] | None:
        """The repository and what is to be written, once the reply has left; None if that is nothing."""
        entry = entry_of(event, reply, host, self._now())
        return None if entry is None else (event.repository, entry)

    def write(self, repository: str, entry: AuditEntry) -> None:
        """Blocks for one request to the store, now and then for two."""
        try:
            layout = Layout(check_fqrn(repository))
            store = self._stores(repository)
            wanted = self._wanted(layout, store)
            refused = entry.status >= 400
            if wanted == "off" or (wanted == "refusals" and not refused):
                return
            others = self._bounded(repository, refused)
            if others is not None:
                flows.run(record(layout, msgspec.structs.replace(entry, others=others)), store)
        except UsageError:
            return  # there is no such repository
        except StratusError as error:
            _log.warning("%s: the audit trail lacks %s (%d): %s", repository[:80], entry.kind, entry.status, error)

    def _wanted(self, layout: Layout, store: Store) -> str:
        with self._lock:
            known = self._known.get(layout.fqrn)
            if known is not None and self._clock() < known.until:
                return known.wanted
        blob = flows.run(flows.find(layout.settings), store)
        wanted = "off" if blob is None else records.parse(blob.data, Settings).audit  # None: there is no repository
        with self._lock:
            known = self._known.setdefault(layout.fqrn, _Known())
            known.wanted, known.until = wanted, self._clock() + _SETTINGS_FOR
        return wanted

    def _bounded(self, repository: str, refused: bool) -> int | None:
        """How many refusals this entry stands for besides; None if it is only counted itself."""
        with self._lock:
            known = self._known[repository]
            minute = int(self._clock() // 60)
            if minute != known.minute:
                known.minute, known.refusals = minute, 0
            if refused:
                known.refusals += 1
                if known.refusals > REFUSALS_A_MINUTE:
                    known.others += 1
                    return None
            others, known.others = known.others, 0
            return others
