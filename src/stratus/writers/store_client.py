"""What ``ApiClient`` asks the API, asked of the store itself, by those who may read its private part."""

from __future__ import annotations

import getpass
import os
import secrets
import time
from datetime import timedelta

from stratus.commit import locking
from stratus.commit.queue import list_queue
from stratus.commit.receipts import find_receipt
from stratus.errors import NotFound
from stratus.formats import messages
from stratus.formats.claim import Epoch
from stratus.formats.messages import ClaimInfo, Queued, QueueEntry, QueueInfo
from stratus.formats.receipt import Receipt
from stratus.leases import holding, process_mark
from stratus.leases.acquiring import Wish
from stratus.leases.listing import Found, find_claim, list_claims
from stratus.leases.waiting import acquire_waiting
from stratus.repository.collection import read_collection
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Flow

_PAUSE = 0.5  # seconds between two looks for a receipt


class StoreClient:
    """The private part of one repository. Everything raises StoreError."""

    def __init__(self, store: Store, fqrn: str) -> None:
        self._store = store
        self._layout = Layout(fqrn)
        self.fqrn = fqrn

    def leases(self) -> tuple[ClaimInfo, ...]:
        """All that are open or sealed, by path."""
        found = flows.run(list_claims(self._layout), self._store)
        return tuple(_info(one) for one in found if one.claim.state != "dead")

    def lease(self, path: bytes | None, ttl: int, wait: float) -> tuple[ClaimInfo, str]:
        """A lease that nobody renews, and its token. Raises LeaseHeld after ``wait`` seconds."""
        secret = secrets.token_urlsafe(24)
        who = f"{getpass.getuser()}@{os.uname().nodename}"
        found = flows.run(self._lease(Wish(path, who, os.uname().nodename, secret, ttl), wait), self._store)
        return found, messages.token(found.id, secret)

    def _lease(self, wish: Wish, wait: float) -> Flow[ClaimInfo]:
        gc = Epoch.of((yield from read_collection(self._layout)))
        held = yield from acquire_waiting(self._layout, wish, gc, wait, process_mark.has_ended)
        return _info(Found(held, (yield from flows.now())))

    def release(self, lease: str) -> None:
        """Raises UsageError for one that is not there; nothing happens to one under which a change set waits."""
        flows.run(self._end(lease, by_force=False), self._store)

    def break_(self, lease: str) -> None:
        """Ends somebody's lease. Raises Busy if a change set was submitted under it, UsageError if it is gone."""
        flows.run(self._end(lease, by_force=True), self._store)

    def _end(self, lease: str, by_force: bool) -> Flow[None]:
        found = yield from find_claim(self._layout, lease)
        yield from (holding.break_ if by_force else holding.release)(self._layout, found.held)

    def receipt(self, change_set: str, wait: float = 0.0) -> Receipt | Queued:
        """The receipt, if it is there within ``wait`` seconds. Raises NotFound for a change set that is not known."""
        until = time.monotonic() + wait
        while True:
            found = flows.run(self._receipt(change_set), self._store)
            if isinstance(found, Receipt) or time.monotonic() >= until:
                return found
            time.sleep(_PAUSE)

    def _receipt(self, change_set: str) -> Flow[Receipt | Queued]:
        receipt, missing = yield from flows.both(
            find_receipt(self._layout, change_set), flows.missing([self._layout.change_set(change_set)])
        )
        if receipt is None and missing:
            raise NotFound(
                f"no change set {change_set} was submitted to {self.fqrn}",
                hint="receipts are kept for a while only; `stratus log` shows what was published",
            )
        return receipt or Queued(change_set)

    def queue(self) -> QueueInfo:
        """What waits, the oldest first."""
        queue, lock = flows.run(flows.both(list_queue(self._layout), locking.look(self._layout)), self._store)
        free = lock.is_free(self._store.now(), process_mark.has_ended)
        entries = tuple(QueueEntry(queued.id, queued.since) for queued in queue)
        return QueueInfo(entries, None if free else lock.lock.owner)


def _info(found: Found) -> ClaimInfo:
    claim = found.claim
    expires = found.modified + timedelta(seconds=claim.ttl) if claim.state == "open" else None
    return ClaimInfo(
        id=claim.id,
        path=claim.path,
        writer=claim.writer,
        host=claim.host,
        state=claim.state,
        since=claim.since,
        ttl=claim.ttl,
        expires=expires,
    )
