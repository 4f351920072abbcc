from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stratus.errors import BadFormat, UsageError
from stratus.formats.key_record import KeyRecord, Quota, gateway_key_id, is_key_id, key_id

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, UTC)
PUBLIC = bytes(range(32))


def record(**changes: Any) -> KeyRecord:
    wanted: dict[str, Any] = {"grants": [b"/b/\xff", b"/a", b"/a"], "lifetime": timedelta(days=1), **changes}
    return KeyRecord.new(PUBLIC, "alice", created=NOW, **wanted)


def test_a_record_reads_back_with_any_bytes_in_its_paths() -> None:
    packed = record(comment="laptop").pack()
    assert packed.isascii()
    found = KeyRecord.parse(packed)
    assert found.paths == (b"/a", b"/b/\xff")
    assert (found.writer, found.comment, found.state) == ("alice", "laptop", "active")
    assert found.created == NOW.replace(microsecond=0)
    assert found.lifetime == timedelta(days=1)
    assert record(lifetime=None, grants=[b""]).lifetime is None


def test_an_id_is_made_of_the_public_key() -> None:
    assert record().id == key_id(PUBLIC)
    assert key_id(PUBLIC) == key_id(PUBLIC) != key_id(PUBLIC[::-1])
    assert is_key_id(key_id(PUBLIC))
    for text in ("", "../settings.json", key_id(PUBLIC).upper(), key_id(PUBLIC) + "a", key_id(PUBLIC) + "\n"):
        assert not is_key_id(text)


def test_no_two_versions_have_the_same_bytes() -> None:
    first = record()
    versions = [first, first.revoked(), first.revoked(), first.ending(NOW), first.ending(NOW)]
    assert len({version.pack() for version in versions}) == len(versions)
    assert [version.gen for version in versions] == [0, 1, 1, 1, 1]


def test_a_key_that_is_revoked_or_ends_earlier_stays_as_it_is() -> None:
    revoked = record().revoked()
    assert revoked.revoked() is revoked
    assert revoked.ending(NOW) is revoked
    first = record()
    assert first.ending(NOW + timedelta(days=2)) is first
    assert first.ending(NOW).expires == NOW.replace(microsecond=0)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a" * 20},
        {"public_key": "AAAA"},
        {"grants": ["/a/../b"]},
        {"grants": ["/a/"]},
        {"state": "asleep"},
        {"created": "2026-11-25T12:00:00"},
        {"expires": 17},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadFormat):
        KeyRecord.parse(json.dumps({**json.loads(record().pack()), **change}).encode())
    with pytest.raises(BadFormat):
        KeyRecord.parse(b"{")


def test_a_key_is_somebodys_for_some_path() -> None:
    with pytest.raises(UsageError):
        record(grants=[])
    with pytest.raises(UsageError):
        KeyRecord.new(PUBLIC, " ", [b""], NOW)


def test_a_gateway_key_is_known_by_its_name_and_has_no_public_key() -> None:
    made = KeyRecord.new("portal-1", "portal", [b"/a"], NOW)
    found = KeyRecord.parse(made.pack())
    assert (found.kind, found.gateway, found.public_key, found.id) == (
        "gateway",
        "portal-1",
        b"",
        gateway_key_id("portal-1"),
    )
    for change in ({"gateway": "portal-2"}, {"gateway": ""}, {"public_key": "AAAA"}, {"kind": "ed25519"}):
        with pytest.raises(BadFormat):
            KeyRecord.parse(json.dumps({**json.loads(made.pack()), **change}).encode())
    with pytest.raises(BadFormat):
        KeyRecord.parse(json.dumps({**json.loads(record().pack()), "gateway": "portal-1"}).encode())
    for name in ("", "../x", "a b", "x" * 65):
        with pytest.raises(UsageError):
            KeyRecord.new(name, "portal", [b""], NOW)


def test_a_quota_is_kept_and_records_of_before_have_the_usual_one() -> None:
    quota = Quota(3, 10**12, 5, 60)
    assert KeyRecord.parse(record(quota=quota).pack()).quota == quota
    content = json.loads(record().pack())
    for name in ("quota", "kind", "gateway"):
        del content[name]
    assert KeyRecord.parse(json.dumps(content).encode()).quota == Quota() == Quota(leases=500)
    for wrong in ({"leases": 0}, {"leases": None}, {"bytes_per_day": -1}, {"requests_per_minute": "many"}):
        with pytest.raises(BadFormat):
            KeyRecord.parse(json.dumps({**content, "quota": wrong}).encode())
