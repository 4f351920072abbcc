"""What a holder does with a lease: renew, release, seal; and what others may do: end an expired one, break one.

Every step is a ``Match`` write on the one key of the claim, so that a claim that was ended can never be renewed or
sealed. An answer that was lost is settled by reading: the own nonce is there, or the step counts as not done.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec.structs import replace

from stratus.errors import Busy, Changed, LeaseLost, Unknown
from stratus.formats import path_code, paths
from stratus.formats.claim import Claim, Epoch, Seal, Why
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Blob, Match, Version
from stratus.stores.flows import Flow

_SLACK = timedelta(seconds=2)  # twice the grain of the store's times
_ATTEMPTS = 8
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two of them


class Held(msgspec.Struct, frozen=True):
    """A claim as it was last read or written, with its version."""

    claim: Claim
    version: Version


def key_of(layout: Layout, claim: Claim) -> str:
    """Where the claim is."""
    if claim.path is None:
        return layout.pathless(claim.id)
    return layout.lease(path_code.claim_name(path_of(claim), claim.id))


def path_of(claim: Claim) -> bytes:
    """The path as bytes; that of a pathless claim is the root's."""
    return (claim.path or "").encode("utf-8", "surrogateescape")


def read(layout: Layout, claim: Claim) -> Flow[Held | None]:
    """The claim as it is now; None if it is gone."""
    blob = yield from flows.find(key_of(layout, claim))
    return None if blob is None else Held(Claim.parse(blob.data), blob.version)


def is_expired(claim: Claim, blob: Blob, now: datetime) -> bool:
    """Whether others may end it, by the store's clock alone."""
    return claim.state == "open" and now - blob.modified > timedelta(seconds=claim.ttl) + _SLACK


def renew(layout: Layout, held: Held) -> Flow[Held]:
    """Keeps the lease for another ttl. Raises LeaseLost, Unknown."""
    if held.claim.state != "open":
        raise _lost(held.claim)
    for attempt in range(_ATTEMPTS):
        renewed = yield from _write(layout, held, held.claim.next("open"))
        if renewed is not None:
            return renewed
        held = yield from _again(held, (yield from _still_open(layout, held.claim)), attempt)
    raise Unknown("the lease may or may not have been renewed", hint="try again")


def release(layout: Layout, held: Held, why: Why = "released") -> Flow[None]:
    """Ends the lease, if it is still open: ``dead`` first, then the key goes. Nothing happens to a sealed one."""
    if held.claim.state != "open":
        return
    for attempt in range(_ATTEMPTS):
        if (yield from _write(layout, held, held.claim.next("dead", why))) is not None:
            yield from flows.delete([key_of(layout, held.claim)])
            return
        found = yield from read(layout, held.claim)
        if found is None or found.claim.state != "open":
            return
        held = yield from _again(held, found, attempt)


def seal(layout: Layout, held: Held, submitted: Seal, gc: Epoch) -> Flow[Literal["sealed", "gone"]]:
    """Submits: from now on the lease cannot expire. Sealing the same again changes nothing.

    ``gone``: the claim is not there any more; a receipt tells what became of it. Raises LeaseLost if it was ended,
    Unknown (seal it again).
    """
    for attempt in range(_ATTEMPTS):
        written = None
        if held.claim.state == "open":
            written = yield from _write(layout, held, held.claim.next("sealed", seal=submitted, gc=gc))
        if written is not None:
            return "sealed"
        found = yield from read(layout, held.claim)
        if found is None:
            return "gone"
        if found.claim.state == "sealed":
            if found.claim.seal is not None and found.claim.seal.digest == submitted.digest:
                return "sealed"
            raise LeaseLost("another change set was submitted under this lease", hint="acquire a new lease")
        if found.claim.state == "dead":
            raise _lost(found.claim)
        held = yield from _again(held, found, attempt)
    raise Unknown("the change set may or may not have been submitted", hint="submit it again")


def end(layout: Layout, held: Held, why: Why) -> Flow[bool]:
    """Ends somebody else's open claim; whether it is ended by us. The key is left for whoever tidies up."""
    return (yield from _write(layout, held, held.claim.next("dead", why))) is not None


def break_(layout: Layout, held: Held) -> Flow[None]:
    """Ends an open claim by force. Raises Busy for a sealed one: its receipt is on the way."""
    if held.claim.state == "sealed":
        raise Busy(
            f"the change set of {held.claim.writer} below {paths.display(path_of(held.claim))} is being published",
            hint="wait for its receipt",
        )
    yield from release(layout, held, "broken")


def _write(layout: Layout, held: Held, claim: Claim) -> Flow[Held | None]:
    """Writes the claim over the version held; None if that is not the newest any more, or was not seen to land."""
    key = key_of(layout, claim)
    try:
        version = yield from flows.put(key, claim.pack(), Match(held.version))
        return Held(claim, version)
    except Changed:
        return None
    except Unknown:
        blob = yield from flows.find(key)
        if blob is None or Claim.parse(blob.data).nonce != claim.nonce:
            return None
        return Held(claim, blob.version)


def _again(held: Held, found: Held, attempt: int) -> Flow[Held]:
    """What the next attempt is made with; later, if it was not somebody else who wrote: the store is busy."""
    if found.version == held.version:
        yield from flows.sleep(min(_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1))
    return found


def _still_open(layout: Layout, claim: Claim) -> Flow[Held]:
    found = yield from read(layout, claim)
    if found is None or found.claim.state != "open":
        raise _lost(claim if found is None else found.claim)
    return replace(found)


def _lost(claim: Claim) -> LeaseLost:
    why = {"expired": "it expired", "broken": "it was broken", "superseded": "a later attempt took its place"}
    return LeaseLost(
        f"the lease of {paths.display(path_of(claim))} is lost: {why.get(claim.why, 'it was ended')}",
        hint="acquire a new lease and publish again",
    )
