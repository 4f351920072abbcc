"""Ceph tells a container of what is put into the queue; the token of the events is what its topic holds."""

from __future__ import annotations

import time
from pathlib import Path

import botocore.session

from stratus.formats.receipt import Receipt
from stratus.stores import flows
from stratus.testing.ceph_server import LocalCeph
from tests.ceph.conftest import BUCKET
from tests.repositories import FQRN, content, new_repository
from tests.runtimes.containers import TOKEN, Container, World
from tests.runtimes.publishing import LAYOUT, submit_and_leave


def test_what_is_put_into_the_queue_is_committed(ceph_server: LocalCeph, tmp_path: Path) -> None:
    store = new_repository(ceph_server.store(BUCKET, "notified"))
    world = World.at(store, f"s3://{BUCKET}/notified", ceph_server.environment(), tmp_path / "secrets")
    with world.container() as container:
        notify(ceph_server, container)
        key = LAYOUT.receipt(submit_and_leave(store))
        # The notification comes before the lease is sealed, so it may be too early for this one.
        submit_and_leave(store, b"/other")
        end = time.monotonic() + 30
        while (found := flows.run(flows.find(key), store)) is None:
            assert time.monotonic() < end
            time.sleep(0.1)
    assert Receipt.parse(found.data).state == "published"
    assert "sw" in content(store)


def notify(server: LocalCeph, container: Container) -> None:
    """Has Ceph post what happens to the queue."""
    session = botocore.session.get_session()
    place = {
        "endpoint_url": server.endpoint,
        "aws_access_key_id": server.access_key,
        "aws_secret_access_key": server.secret_key,
    }
    topic = session.create_client("sns", region_name="default", **place).create_topic(
        Name="queue", Attributes={"push-endpoint": container.url, "OpaqueData": TOKEN}
    )
    session.create_client("s3", region_name="us-east-1", **place).put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "TopicConfigurations": [
                {
                    "Id": FQRN,
                    "TopicArn": topic["TopicArn"],
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"notified/{LAYOUT.queue()}"}]}},
                }
            ]
        },
    )
