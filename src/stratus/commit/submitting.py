"""Submitting: the change set and its queue entry first, then the seal, which is the moment of submission.

The queue entry comes before the seal, so whatever is sealed is in the queue. Submitting again does no harm: it ends
where the first time would have ended.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stratus.commit import locking
from stratus.commit.locking import SeenLock
from stratus.commit.queue import ENTRY, entry_key
from stratus.commit.receipts import find_receipt
from stratus.errors import Exists, LeaseLost, Rejected, Unknown
from stratus.formats import change_file
from stratus.formats.claim import Epoch, Seal
from stratus.formats.receipt import Receipt
from stratus.leases.holding import Held, seal
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT
from stratus.stores.flows import Flow


class Submitted(msgspec.Struct, frozen=True):
    """A change set that waits, and the lock as it was found after it was sealed."""

    lock: SeenLock


def submit(
    layout: Layout,
    held: Held,
    file: bytes,
    base: int | None,
    gc: Epoch,
    check: Callable[[], Flow[None]] | None = None,
) -> Flow[Submitted | Receipt]:
    """Submits the packed change set under the lease; its receipt if that is there already.

    ``gc`` is the oldest epoch under which its objects were looked for. ``check`` is made beside the first step, and
    what it raises is raised: nothing is submitted then. Raises LeaseLost, Rejected, Unknown (submit again).
    """
    claim = held.claim
    sealing = Seal(change_file.digest(file), len(file), base)
    first = [_put_change_set(layout, claim.id, file), flows.put(entry_key(layout, claim), ENTRY)]
    yield from flows.together(first if check is None else [*first, check()])
    state = yield from seal(layout, held, sealing, gc)
    if state == "gone":
        receipt = yield from find_receipt(layout, claim.id)
        if receipt is None:
            raise LeaseLost("the lease is gone", hint="acquire a new lease and publish again")
        return receipt
    return Submitted((yield from locking.look(layout)))


def _put_change_set(layout: Layout, change_set: str, file: bytes) -> Flow[None]:
    """Stores it, once. Raises Rejected if another one was stored under this id."""
    key = layout.change_set(change_set)
    try:
        yield from flows.put(key, file, ABSENT)
    except (Exists, Unknown):
        found = yield from flows.find(key)
        if found is None:
            raise Unknown("the change set may or may not have been stored", hint="submit it again") from None
        if found.data != file:
            raise Rejected(
                "another change set was submitted under this lease",
                reason="other_change_set",
                hint="acquire a new lease for each change set",
            ) from None
