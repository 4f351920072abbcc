"""Events from SQS, S3, EventBridge and its schedules, or from whoever may invoke the function.

From a queue come batches: what was not handled is named in the answer, so that it alone comes again
(``ReportBatchItemFailures``), and ends in the dead-letter queue if that does not help. All else fails as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stratus.errors import StratusError
from stratus.functions.contract import Event
from stratus.runtimes import envelopes
from stratus.runtimes.aws.warm import LambdaContext, Warm, log, seconds_left, warm

_LEAST_TIME = 3.0  # seconds that an event is worth beginning with


class Failed(Exception):
    """An event was not handled; Lambda delivers it again."""


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One event, or a batch."""
    here = warm()
    records = event.get("Records", [])
    if records and records[0].get("eventSource") == "aws:sqs":
        messages = {record["messageId"]: _parsed(record["body"], here) for record in records}
        failed = _failures(messages, here, context)
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}
    failed = _failures({"event": envelopes.of_json(dict(event), here.settings.repositories)}, here, context)
    if failed:
        raise Failed("the event was not handled; the log says why")
    return {}


def _parsed(body: str, here: Warm) -> list[Event] | None:
    """None for what is no event of ours: the dead-letter queue shows it to people."""
    try:
        return envelopes.parse(body, here.settings.repositories)
    except StratusError as error:
        log.error("a message is no event: %s", error)
        return None


def _failures(messages: Mapping[str, Sequence[Event] | None], here: Warm, context: LambdaContext) -> list[str]:
    """The messages that were not handled; what several say is done once."""
    done: dict[str, bool] = {}
    failed = []
    for name, events in messages.items():
        good = events is not None
        for event in events or ():
            key = json.dumps([event.kind, event.repository, sorted(event.parameters.items())])
            if key not in done:
                done[key] = seconds_left(context) > _LEAST_TIME and _handled(event, here, context)
            good = good and done[key]
        if not good:
            failed.append(name)
    return failed


def _handled(event: Event, here: Warm, context: LambdaContext) -> bool:
    reply = here.run(event, context)
    if reply.status >= 400:
        log.error("%s of %s: %s", event.kind, event.repository, reply.body.decode(errors="replace"))
    return reply.status < 400
