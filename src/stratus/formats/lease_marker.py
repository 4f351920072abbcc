"""Markers of leases, ``quotas/<key>/leases/<lease>``: what a key holds, and what signs the uploads under each lease."""

from __future__ import annotations

import json
import secrets

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed


class LeaseMarker(msgspec.Struct, frozen=True):
    """Written once, beside a claim.

    Attributes:
        claim: the key of the claim.
        secret: of this lease; with it the API signs grants of uploads that it takes itself. Nobody is told.
    """

    claim: str
    secret: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))

    def pack(self) -> bytes:
        """As JSON in ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> LeaseMarker:
        """Raises BadFormat."""
        try:
            return typed.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not the marker of a lease: {error}") from error
