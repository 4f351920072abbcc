"""Claims: the records of leases in the store, changed by ``Match`` only.

Absent, then ``open``, then either ``sealed`` (a change set was submitted, nothing but its outcome ends it) or ``dead``
(``why``: released, withdrawn, superseded, expired, broken), then deleted and never written again: ids are random.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.records import Collection, new_nonce

State = Literal["open", "sealed", "dead"]
Why = Literal["", "released", "withdrawn", "superseded", "expired", "broken"]

DEFAULT_TTL = 300  # seconds
LONGEST_TTL = 7200


class Epoch(msgspec.Struct, frozen=True):
    """Garbage collection as it was read: the epoch and its phase. An older one is always safe to go by."""

    n: int
    phase: Literal["quiet", "sweep", "drain"]

    @classmethod
    def of(cls, collection: Collection) -> Epoch:
        return cls(collection.n, collection.phase)


class Seal(msgspec.Struct, frozen=True):
    """What was submitted: SHA-256 and size in bytes of the change set, the revision that it was made against."""

    digest: str
    bytes: int
    base: int | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one lease.

    Attributes:
        id: of the lease, and of the change set that is submitted under it.
        request: nonce of the wish that this is the ``attempt``-th try at.
        path: what is leased, with surrogate escapes; None for a claim that leaves the tree alone.
        writer: who holds it; ``host`` where, ``process`` in which process, if that is known there.
        secret: SHA-256 of the holder's secret.
        ttl: seconds after the last write at which others may end it.
        since: when it was first written, ISO 8601, for people.
        gc: the epoch under which the holder looks for objects.
        seal: what was submitted, once it is sealed.
    """

    id: str
    request: str
    attempt: int
    path: str | None
    writer: str
    host: str
    secret: str
    ttl: int
    since: str
    gc: Epoch
    state: State = "open"
    why: Why = ""
    seal: Seal | None = None
    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0
    process: str = ""

    def next(self, state: State, why: Why = "", seal: Seal | None = None, gc: Epoch | None = None) -> Claim:
        """The claim as it is written next; its bytes are unlike those of any other version."""
        return msgspec.structs.replace(
            self, state=state, why=why, seal=seal or self.seal, gc=gc or self.gc, gen=self.gen + 1, nonce=new_nonce()
        )

    def pack(self) -> bytes:
        """As JSON in ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> Claim:
        """Raises BadFormat."""
        try:
            return typed.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not a claim: {error}") from error


def hash_secret(secret: str) -> str:
    """What a claim keeps of the holder's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
