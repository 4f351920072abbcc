"""Notifications are the stock tools' activity messages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stratus.errors import BadFormat
from stratus.formats.notification import Notification, parse_subscription
from tests.repositories import FQRN, new_repository

MANIFEST = new_repository().get(f"{FQRN}/.cvmfspublished").data


def stock(**changes: Any) -> bytes:
    """As `cvmfs_swissknife notify -p` writes it."""
    message = {
        "version": 1,
        "timestamp": "26 Nov 2026 12:00:00",
        "type": "activity",
        "repository": FQRN,
        "manifest": base64.b64encode(MANIFEST).decode(),
    }
    return json.dumps({**message, **changes}).encode()


def test_a_message_is_one_line_with_everything_that_stock_clients_read() -> None:
    packed = Notification.of(MANIFEST).pack()
    assert b"\n" not in packed
    message = json.loads(packed)
    assert (message["version"], message["type"], message["repository"]) == (1, "activity", FQRN)
    assert base64.b64decode(message["manifest"]) == MANIFEST
    assert isinstance(message["timestamp"], str)
    assert message["revision"] == 1
    assert f"C{message['root']}\n".encode() in MANIFEST


def test_what_was_packed_is_parsed() -> None:
    found = Notification.of(MANIFEST)
    assert Notification.parse(found.pack()) == found


def test_equal_manifests_make_equal_messages() -> None:
    assert Notification.of(MANIFEST).pack() == Notification.of(MANIFEST).pack()


def test_the_messages_of_stock_publishers_are_read() -> None:
    assert Notification.parse(stock()) == Notification.of(MANIFEST)


def test_what_is_said_beside_the_manifest_does_not_count() -> None:
    assert Notification.parse(stock(revision=99, root="00")).revision == 1


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"[]",
        stock(version=2),
        stock(type="status"),
        stock(repository="other.example.org"),
        stock(manifest="no base64!"),
        stock(manifest=""),
        stock(manifest=None),
        stock(padding="x" * (1 << 20)),
    ],
)
def test_anything_else_is_refused(message: bytes) -> None:
    with pytest.raises(BadFormat):
        Notification.parse(message)


def test_a_stock_subscription_names_the_repository() -> None:
    assert parse_subscription(b'{"version":1,"repository":"sw.example.org"}') == "sw.example.org"
    for wrong in (b"", b"{}", b'{"repository": 1}'):
        with pytest.raises(BadFormat):
            parse_subscription(wrong)
