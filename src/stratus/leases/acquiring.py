"""Acquiring a lease: write a claim, look for others that overlap, stay or withdraw.

Both of two contenders write before they look, so at least one sees the other. Of two that see each other the one with
the smaller id stays. An expired claim in the way is ended by ``Match``; a sealed one that has no receipt yet, and an
open one that is alive, are conflicts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from stratus.errors import Exists, LeaseHeld, Unknown
from stratus.formats import path_code, paths
from stratus.formats.changes import new_id
from stratus.formats.claim import DEFAULT_TTL, Claim, Epoch, hash_secret
from stratus.formats.records import new_nonce
from stratus.leases.holding import Held, end, is_expired, key_of, path_of, release
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Blob
from stratus.stores.flows import Flow

_LOOKS = 4  # the first, and three more while a contender with a larger id may withdraw
_PAUSE = 0.3  # seconds between two looks


class Wish(msgspec.Struct, frozen=True):
    """What somebody wants to lease; the same for all attempts at it.

    Attributes:
        path: None for a claim that leaves the tree alone and overlaps with nothing.
        secret: known to the holder alone; the claim has its hash.
        ttl: seconds.
        process: the mark of the process that acquires.
    """

    path: bytes | None
    writer: str
    host: str
    secret: str
    ttl: int = DEFAULT_TTL
    request: str = msgspec.field(default_factory=new_nonce)
    process: str = ""


def acquire(
    layout: Layout,
    wish: Wish,
    gc: Epoch,
    attempt: int = 1,
    claim_id: str | None = None,
    is_gone: Callable[[str], bool] = lambda _: False,
) -> Flow[Held]:
    """One attempt. ``gc`` may have been read at any time before. Raises LeaseHeld with who holds it and how long.

    An id is used once: whoever tries again takes the next ``attempt`` and another id. Open claims of processes that
    ``is_gone`` knows to have ended are broken.
    """
    now = yield from flows.now()
    claim = Claim(
        id=claim_id or new_id(),
        request=wish.request,
        attempt=attempt,
        path=None if wish.path is None else wish.path.decode("utf-8", "surrogateescape"),
        writer=wish.writer,
        host=wish.host,
        secret=hash_secret(wish.secret),
        ttl=wish.ttl,
        since=now.isoformat(timespec="seconds"),
        gc=gc,
        process=wish.process,
    )
    held = yield from _put_first(layout, claim)
    if wish.path is None:
        return held
    conflict: LeaseHeld | None = None
    for look in range(_LOOKS):
        if look:
            yield from flows.sleep(_PAUSE * random.uniform(0.8, 1.2))
        found = yield from _overlapping(layout, wish.path, claim.id)
        conflict, may_withdraw = yield from _settle(layout, claim, found, is_gone)
        if conflict is None:
            return held
        if not may_withdraw:
            break
    yield from release(layout, held, "withdrawn")
    assert conflict is not None
    raise conflict


def _put_first(layout: Layout, claim: Claim) -> Flow[Held]:
    """Writes the claim. An answer that is lost and not seen to have landed gives the id up: it may still land."""
    key = key_of(layout, claim)
    try:
        return Held(claim, (yield from flows.put(key, claim.pack(), ABSENT)))
    except (Exists, Unknown):
        blob = yield from flows.find(key)
        if blob is None or Claim.parse(blob.data).nonce != claim.nonce:
            raise Unknown("the claim may or may not have been written", hint="try again") from None
        return Held(claim, blob.version)


def _overlapping(layout: Layout, path: bytes, own: str) -> Flow[list[str]]:
    """The keys of all claims at, below and above the path, but the own."""
    prefixes = [path_code.at_and_below(path), *map(path_code.exactly, paths.ancestors(path))]
    listed = yield from flows.together([flows.list_keys(layout.lease(prefix)) for prefix in prefixes])
    return [stat.key for stats in listed for stat in stats if not stat.key.replace("/", "").endswith(f"!!{own}")]


def _settle(
    layout: Layout, own: Claim, keys: Iterable[str], is_gone: Callable[[str], bool]
) -> Flow[tuple[LeaseHeld | None, bool]]:
    """Ends what has expired; the conflict that is left, and whether all in the way may still withdraw from us."""
    conflict: LeaseHeld | None = None
    may_withdraw = True
    waiting = list(keys)
    while waiting:
        blobs = yield from flows.together([flows.find(key) for key in waiting])
        now = yield from flows.now()
        others = [
            (key, blob, Claim.parse(blob.data)) for key, blob in zip(waiting, blobs, strict=True) if blob is not None
        ]
        decided = yield from _decided(layout, [other.id for _, _, other in others if other.state == "sealed"])
        again: list[str] = []
        for key, blob, other in others:
            if other.state == "dead" or other.id in decided:
                continue
            same = other.request == own.request and other.writer == own.writer
            if other.state == "open" and same and other.attempt < own.attempt:
                if not (yield from end(layout, Held(other, blob.version), "superseded")):
                    again.append(key)
            elif is_expired(other, blob, now):
                if not (yield from end(layout, Held(other, blob.version), "expired")):
                    again.append(key)
            elif other.state == "open" and is_gone(other.process):
                if not (yield from end(layout, Held(other, blob.version), "broken")):
                    again.append(key)
            else:
                conflict = conflict or _held(other, blob, now)
                later = same and other.attempt > own.attempt
                may_withdraw = may_withdraw and other.state == "open" and other.id > own.id and not later
        waiting = again
    return conflict, may_withdraw


def _decided(layout: Layout, sealed: Sequence[str]) -> Flow[set[str]]:
    """Those of the sealed claims that have their receipt: what is left of them is only to be removed."""
    if not sealed:
        return set()
    missing = yield from flows.missing(layout.receipt(claim) for claim in sealed)
    return {claim for claim in sealed if layout.receipt(claim) not in missing}


def _held(claim: Claim, blob: Blob, now: datetime) -> LeaseHeld:
    path = paths.display(path_of(claim))
    if claim.state == "sealed":
        return LeaseHeld(
            f"{path} is being published to by {claim.writer} on {claim.host}",
            holder=claim.writer,
            host=claim.host,
            expires=None,
            hint="wait for it with --wait",
        )
    expires = blob.modified + timedelta(seconds=claim.ttl)
    left = max(int((expires - now).total_seconds()), 0)
    return LeaseHeld(
        f"{path} is leased by {claim.writer} on {claim.host}, for {left} s more",
        holder=claim.writer,
        host=claim.host,
        expires=expires,
        hint="wait for it with --wait, or lease a path that does not overlap",
    )
