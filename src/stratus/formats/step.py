"""Steps: work that did not fit into one invocation, ``steps/<kind>/<id>``: what goes on, and how far it has come."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A follow-up event with its checkpoint.

    Attributes:
        kind, id: of the event; ``attempt`` counts its invocations.
        due: when somebody has to run it, if nobody did until then (UTC); None for one that has ended.
        body: what the kind of function keeps there.
    """

    kind: str
    id: str
    due: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    attempt: int = 1
    body: dict[str, Any] = {}

    def pack(self) -> bytes:
        """As JSON in ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> Step:
        """Raises BadFormat."""
        try:
            return typed.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not a step: {error}") from error
