"""How events travel between functions, and what else makes events: notifications of stores, schedules.

Only events of the system itself travel so: who may ask for anything else has to sign, and goes through the API. All of
them may come twice, late, or in any order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote_plus

import msgspec

from stratus.errors import UsageError
from stratus.formats import typed
from stratus.formats.changes import new_id
from stratus.functions.contract import Event

Kind = Literal["commit", "tend", "notify", "submit"]
_QUEUE = re.compile(r"(?:^|/)\.stratus/([^/]+)/queue/.")
_HINT = "docs/operations.md says which events are taken"


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of the system as JSON. Without a repository it is for all that are served."""

    kind: Kind
    repository: str = ""
    id: str = ""
    parameters: Mapping[str, str] = {}
    attempt: int = 1


def pack(event: Event) -> bytes:
    """An event that is to travel."""
    return msgspec.json.encode(typed.convert(_fields(event), Envelope))


def _fields(event: Event) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "repository": event.repository,
        "id": event.id,
        "parameters": dict(event.parameters),
        "attempt": event.attempt,
    }


def parse(data: bytes | str, repositories: Sequence[str]) -> list[Event]:
    """The events that JSON from elsewhere stands for. Raises UsageError for what is none."""
    try:
        found = msgspec.json.decode(data)  # noqa: TID251 (of no type)
    except msgspec.DecodeError as error:
        raise UsageError(f"an event is no JSON: {error}", hint=_HINT) from error
    return of_json(found, repositories)


def of_json(found: Any, repositories: Sequence[str]) -> list[Event]:
    """The events that a JSON object stands for.

    It is an Envelope; or the notification of a store with ``Records``, as S3, MinIO and Ceph RadosGW send it; or that
    of EventBridge with a ``detail``. What happened elsewhere in a store is no event. Raises UsageError.
    """
    if not isinstance(found, dict):
        raise UsageError("an event is no JSON object", hint=_HINT)
    if found.get("Event") == "s3:TestEvent":
        return []
    try:
        if "Records" in found:
            return _commits((one["s3"]["object"]["key"] for one in found["Records"]), repositories)
        if "detail" in found and "kind" not in found:
            return _commits([found["detail"]["object"]["key"]], repositories)
    except (KeyError, TypeError) as error:
        raise UsageError("the notification of the store has an unknown form", hint=_HINT) from error
    try:
        envelope = typed.convert(found, Envelope)
    except msgspec.ValidationError as error:
        raise UsageError(f"an event has an unknown form: {error}", hint=_HINT) from error
    names = [envelope.repository] if envelope.repository else repositories
    return [
        Event(envelope.kind, envelope.id or new_id(), name, dict(envelope.parameters), attempt=envelope.attempt)
        for name in names
    ]


def _commits(keys: Iterable[str], repositories: Sequence[str]) -> list[Event]:
    """One commit for each repository into whose queue something was put."""
    matches = (_QUEUE.search(unquote_plus(key)) for key in keys)
    names = dict.fromkeys(match[1] for match in matches if match is not None)
    return [Event("commit", new_id(), name) for name in names if name in repositories]
