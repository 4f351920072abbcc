"""Receipts: what an outcome in the root catalog is told to the writer as, written once and kept for a while."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from stratus.costs.prices import AWS
from stratus.errors import Exists, StratusError, Unknown
from stratus.formats import paths
from stratus.formats.changes import ChangeSet
from stratus.formats.outcomes import Outcome
from stratus.formats.receipt import Entries, ErrorObject, Objects, Receipt, Requests, Seconds, Volumes
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT
from stratus.stores.flows import Flow

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.3, 5.0  # seconds
HINTS: Mapping[str, str] = {
    "objects_collected": "publish again: the objects are uploaded anew",
    "too_heavy": "publish it in smaller pieces",
    "lease_lost": "acquire a new lease and publish again",
    "bad_change_set": "publish again, with the same version of stratus as the committer",
}
_MESSAGES: Mapping[str, str] = {
    "objects_collected": "objects of the change set were collected before it was committed",
    "too_heavy": "the change set is too heavy: three committers died of it",
    "lease_lost": "the lease had ended before the change set was submitted",
    "bad_change_set": "the change set that was sealed is not there, or cannot be read",
}


class Effort(msgspec.Struct, frozen=True):
    """What a commit cost, of which each change set of the batch bears a part.

    Attributes:
        seconds: from the start of the round.
        gb_seconds: memory times time, of a function that is billed for it.
    """

    requests: Requests = msgspec.field(default_factory=Requests)
    seconds: float = 0.0
    invocations: int = 0
    gb_seconds: float = 0.0


def find_receipt(layout: Layout, change_set: str) -> Flow[Receipt | None]:
    """The receipt; None if there is none (yet)."""
    blob = yield from flows.find(layout.receipt(change_set))
    return None if blob is None else Receipt.parse(blob.data)


def pauses(first: float) -> Iterator[float]:
    """Seconds between looks for a receipt, longer and longer: who waits for long asks a busy store seldom."""
    pause = min(max(first, _SHORTEST_PAUSE), _LONGEST_PAUSE)
    while True:
        # Not all at once, who submitted at the same time.
        yield pause * random.uniform(0.75, 1.0)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def make_receipt(
    repository: str,
    change_set: ChangeSet | None,
    key: str,
    outcome: Outcome,
    root: str,
    *,
    error: StratusError | None = None,
    warnings: Iterable[str] = (),
    queued: float = 0.0,
    time: int = 0,
    effort: Effort = Effort(),
) -> Receipt:
    """The receipt of an outcome; what it cost is known only to the process that did it, and zero elsewhere."""
    usage = None if change_set is None else change_set.usage
    spent = effort.requests if usage is None else effort.requests.plus(Requests(*usage.requests))
    return Receipt(
        id=key,
        state=outcome.state,
        time=time,
        repository=repository,
        path="" if change_set is None else paths.display(change_set.path),
        revision=outcome.revision,
        root=root,
        writer="" if change_set is None else change_set.writer,
        message="" if change_set is None else change_set.message,
        tag=None if change_set is None else change_set.tag,
        entries=Entries(*outcome.entries),
        objects=Objects(*outcome.objects),
        bytes=Volumes(*outcome.bytes),
        requests=spent,
        seconds=Seconds(0.0 if usage is None else round(usage.seconds, 3), round(queued, 3), round(effort.seconds, 3)),
        invocations=effort.invocations,
        gb_seconds=effort.gb_seconds,
        cost=AWS.price(spent, gb_seconds=effort.gb_seconds, invocations=effort.invocations if effort.gb_seconds else 0),
        warnings=(*(() if change_set is None else change_set.warnings), *warnings),
        error=None if outcome.state == "published" else _error(outcome, error),
    )


def _error(outcome: Outcome, error: StratusError | None) -> ErrorObject:
    code = outcome.code
    if error is None:
        return ErrorObject(code, _MESSAGES.get(code, f"rejected: {code}"), HINTS.get(code, ""))
    path = None if error.path is None else error.path.decode("utf-8", "surrogateescape")
    return ErrorObject(code, error.message, error.hint, path)


def write_receipts(layout: Layout, receipts: Iterable[Receipt]) -> Flow[set[str]]:
    """Writes those that are not there yet; gives the change sets whose receipts are there for certain."""
    wanted = list(receipts)
    written = yield from flows.together([_write(layout, receipt) for receipt in wanted])
    return {receipt.id for receipt, there in zip(wanted, written, strict=True) if there}


def _write(layout: Layout, receipt: Receipt) -> Flow[bool]:
    try:
        yield from flows.put(layout.receipt(receipt.id), receipt.pack(), ABSENT)
    except Exists:
        return True
    except Unknown:
        return (yield from flows.find(layout.receipt(receipt.id))) is not None
    return True
