from __future__ import annotations

import json
from typing import Any

import pytest

from stratus.errors import UsageError
from stratus.functions.contract import Event
from stratus.runtimes import envelopes

NAMES = ("a.example.org", "b.example.org")


def commits(found: Any) -> list[tuple[str, str]]:
    return [(event.kind, event.repository) for event in envelopes.of_json(found, NAMES)]


def put(*keys: str) -> dict[str, Any]:
    return {
        "Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": "x"}, "object": {"key": key}}} for key in keys]
    }


def test_an_event_travels_as_it_is() -> None:
    event = Event("submit", "submit-1", "a.example.org", {"id": "abc"}, attempt=3)
    assert envelopes.parse(envelopes.pack(event), NAMES) == [event]


def test_an_event_without_a_repository_is_for_all() -> None:
    assert commits({"kind": "tend"}) == [("tend", "a.example.org"), ("tend", "b.example.org")]


@pytest.mark.parametrize("prefix", ["", "some/where/"])
@pytest.mark.parametrize("name", ["sw!!x7", "sw%21%21x7", "%40%21%21x7", "a!b/c!!x7"])
def test_what_is_put_into_a_queue_is_to_be_committed(prefix: str, name: str) -> None:
    key = f"{prefix}.stratus/b.example.org/queue/{name}"
    assert commits(put(key)) == [("commit", "b.example.org")]
    assert commits({"detail-type": "Object Created", "detail": {"object": {"key": key}}}) == [
        ("commit", "b.example.org")
    ]


def test_many_notifications_of_one_repository_are_one_commit() -> None:
    keys = [f".stratus/{name}/queue/{number}!!x" for number in range(3) for name in NAMES]
    assert commits(put(*keys)) == [("commit", name) for name in NAMES]


@pytest.mark.parametrize(
    "key", ["a.example.org/data/00/1", ".stratus/a.example.org/leases/sw!!x", ".stratus/other.example.org/queue/x!!y"]
)
def test_what_happens_elsewhere_is_no_event(key: str) -> None:
    assert commits(put(key)) == []


def test_the_first_message_of_s3_is_no_event() -> None:
    assert commits({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "x"}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        json.dumps({"kind": "lease.acquire", "repository": "a.example.org"}),
        json.dumps({"kind": "submit", "parameters": {"id": 7}}),
        json.dumps({"Records": [{"s3": {}}]}),
        json.dumps({"Records": 7}),
        json.dumps({"detail": {}}),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        envelopes.parse(text, NAMES)
