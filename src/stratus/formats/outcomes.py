"""Outcomes: what became of each change set, kept in the root catalog's property ``stratus.outcomes``.

``{id: [state, code, revision, [added, changed, removed], [new, present objects], [plain, stored, uploaded bytes]]}``.
A change set is decided when the manifest of the root that names its outcome is swapped in; a repeated commit looks here
and does not apply it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed

PROPERTY = "stratus.outcomes"

State = Literal["published", "rejected"]


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one change set; ``code`` says why one was rejected."""

    state: State
    code: str
    revision: int
    entries: tuple[int, int, int] = (0, 0, 0)
    objects: tuple[int, int] = (0, 0)
    bytes: tuple[int, int, int] = (0, 0, 0)


def parse(text: str | None) -> dict[str, Outcome]:
    """The outcomes in a property, the oldest first; none if it is not set. Raises BadFormat."""
    try:
        return {} if text is None else typed.from_json(text.encode(), dict[str, Outcome])
    except msgspec.DecodeError as error:
        raise BadFormat(f"the root catalog's {PROPERTY} cannot be read: {error}") from error


def pack(outcomes: Mapping[str, Outcome]) -> str:
    """The property's text."""
    return msgspec.json.encode(outcomes).decode()
