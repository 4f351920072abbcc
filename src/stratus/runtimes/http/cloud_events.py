"""CloudEvents over HTTP: requests to events of the system, and back.

Binary, structured and batched ones come in; what is no CloudEvent is taken for the JSON that it is, since stores and
schedulers send that. The data say what is meant (``runtimes.envelopes``); without any, type and subject do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import http
from cloudevents.core.bindings.http import HTTPMessage
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from stratus.errors import UsageError
from stratus.functions.contract import Event
from stratus.runtimes import envelopes

TYPE = "org.stratus."  # and the kind
BATCH = "application/cloudevents-batch+json"
_STRUCTURED = "application/cloudevents+json"


def read(headers: Mapping[str, str], body: bytes, repositories: Sequence[str]) -> list[Event]:
    """The events of a request; ``headers`` by their names in lower case. Raises UsageError."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != BATCH and media != _STRUCTURED and "ce-specversion" not in headers:
        return envelopes.parse(body, repositories)
    try:
        if media == BATCH:
            found = [JSONFormat().read(None, json.dumps(one)) for one in json.loads(body)]
        else:
            found = [http.from_http_event(HTTPMessage(dict(headers), body))]
    except (BaseCloudEventException, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UsageError(f"the request holds no CloudEvents: {error}", hint="see https://cloudevents.io") from error
    return [event for one in found for event in _events(one, repositories)]


def write(event: Event, source: str) -> HTTPMessage:
    """An event of the system, in binary mode."""
    attributes = {
        "id": f"{event.id}-{event.attempt}",
        "source": source,
        "type": TYPE + event.kind,
        "subject": event.repository,
        "datacontenttype": "application/json",
    }
    return http.to_binary_event(CloudEvent(attributes, json.loads(envelopes.pack(event))))


def _events(found: BaseCloudEvent, repositories: Sequence[str]) -> list[Event]:
    data: Any = found.get_data()
    if isinstance(data, bytes | bytearray | str):
        data = json.loads(data) if data else None
    kind = found.get_type()
    if not data and kind.startswith(TYPE):
        data = {"kind": kind.removeprefix(TYPE), "repository": found.get_subject() or "", "id": found.get_id()}
    return envelopes.of_json(data, repositories)
