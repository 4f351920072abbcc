"""What the template wires, on MiniStack: an entry of the queue makes S3 tell SQS, which feeds the committer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.formats.receipt import Receipt
from stratus.functions.contract import Event
from stratus.runtimes import envelopes
from stratus.runtimes.aws.queues import Queues
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.opening import open_store
from tests.repositories import FQRN, content, keys, new_repository
from tests.runtimes.ministack import MiniStack, ministack
from tests.runtimes.publishing import LAYOUT, submit_and_leave

BUCKET = "software"
COMMIT = "stratus.runtimes.aws.events.handler"


@pytest.fixture(scope="module")
def cloud() -> Iterator[MiniStack]:
    with ministack() as found:
        yield found


@pytest.fixture
def store(cloud: MiniStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With a repository whose committer waits for events of the bucket."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    keys().save(tmp_path)
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    store = new_repository(open_store(f"s3://{BUCKET}"))
    _, arn = cloud.create_queue("store-events", DelaySeconds="1")
    cloud.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": arn,
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": LAYOUT.queue()}]}},
                }
            ]
        },
    )
    environment = {
        "STRATUS_STORE": f"s3://{BUCKET}",
        "STRATUS_REPOSITORIES": FQRN,
        "STRATUS_SECRETS": f"file://{tmp_path}",
    }
    cloud.create_function("commit", COMMIT, environment, arn)
    return store


def test_what_is_put_into_the_queue_is_committed(store: Store) -> None:
    key = LAYOUT.receipt(submit_and_leave(store))
    end = time.monotonic() + 60
    while (found := flows.run(flows.find(key), store)) is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    receipt = Receipt.parse(found.data)
    assert (receipt.state, receipt.revision, receipt.writer) == ("published", 2, "bob")
    assert content(store) == {"sw": None}


def test_follow_ups_are_sent_as_sqs_takes_them(cloud: MiniStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    url, _ = cloud.create_queue("follow-ups")
    event = Event("commit", "commit-1", FQRN)
    assert Queues({"commit": url}).send(event)
    assert not Queues({"commit": url}).send(Event("notify", "notify-1", FQRN))
    (message,) = cloud.client("sqs").receive_message(QueueUrl=url)["Messages"]
    assert envelopes.parse(message["Body"], [FQRN]) == [event]
    assert json.loads(message["Body"])["kind"] == "commit"
