"""Which function answers which kind of event, and what becomes of errors: problem documents of RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from stratus.errors import (
    BadSignature,
    Busy,
    Changed,
    LeaseHeld,
    LeaseLost,
    NoSuchRepository,
    NotFound,
    NotPermitted,
    QuotaExceeded,
    Rejected,
    StoreError,
    StratusError,
    Unknown,
    UsageError,
)
from stratus.formats import messages
from stratus.formats.messages import PROBLEM_TYPE, Problem
from stratus.functions import api
from stratus.functions.commit import commit_queue
from stratus.functions.contract import Context, Event, Handler, Reply
from stratus.functions.grants import grant_uploads
from stratus.functions.notify import notify
from stratus.functions.submission import submit_change_set
from stratus.functions.tend import tend

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "lease.acquire": api.acquire_lease,
        "lease.renew": api.renew_lease,
        "lease.release": api.release_lease,
        "lease.break": api.break_lease,
        "lease.list": api.list_leases,
        "lease.grants": grant_uploads,
        "submit": submit_change_set,
        "receipt": api.find_receipt,
        "queue": api.show_queue,
        "status": api.show_status,
        "commit": commit_queue,
        "tend": tend,
        "notify": notify,
    }
)

_STATUS: tuple[tuple[type[StratusError], int], ...] = (  # the first that fits
    (NoSuchRepository, 404),
    (UsageError, 400),
    (Busy, 409),
    (LeaseLost, 410),
    (QuotaExceeded, 429),
    (NotPermitted, 403),
    (BadSignature, 401),
    (Rejected, 422),
    (NotFound, 404),
    (Unknown, 503),
    (Changed, 503),
    (StoreError, 502),
)
_RETRY_BUSY, _RETRY_STORE = 15, 2  # seconds
_LONGEST_RETRY = 30


def dispatch(event: Event, context: Context, handlers: Mapping[str, Handler] = HANDLERS) -> Reply:
    """Has an event answered; a StratusError becomes a problem document."""
    handler = handlers.get(event.kind)
    try:
        if handler is None:
            raise UsageError(f"there is no function for {event.kind!r}", hint="is this the newest version of stratus?")
        return handler(event, context)
    except StratusError as error:
        context.log.info("%s of %s: %s: %s", event.kind, event.repository, error.code, error)
        return problem(error)


def problem(error: StratusError, status: int | None = None) -> Reply:
    """An error as a reply; by default with the status of its class."""
    found = status or next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
    headers = [("Content-Type", PROBLEM_TYPE)]
    retry = _retry_after(error)
    if retry is not None:
        headers.append(("Retry-After", str(retry)))
    return Reply(found, messages.pack(Problem.of(error, found)), tuple(headers))


def _retry_after(error: StratusError) -> int | None:
    """Seconds after which it may go better."""
    if isinstance(error, LeaseHeld) and error.expires is not None:
        left = (error.expires - datetime.now(UTC)).total_seconds()
        return max(min(int(left) + 1, _LONGEST_RETRY), 1)
    if isinstance(error, QuotaExceeded):
        return error.retry_after
    if isinstance(error, LeaseHeld | StoreError) and not isinstance(error, NotFound):
        return _RETRY_STORE
    return _RETRY_BUSY if isinstance(error, Busy) else None
