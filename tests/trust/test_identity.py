from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stratus.errors import BadName, NotPermitted
from stratus.formats.key_record import KeyRecord
from stratus.trust.identity import Identity, may_lease, must_be_active
from stratus.trust.writer_keys import WriterKey

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def record(*grants: bytes) -> KeyRecord:
    return KeyRecord.new(WriterKey.generate().public_key, "alice", grants, NOW, timedelta(days=1))


def granted(*grants: bytes) -> Identity:
    return Identity.of_key(record(*grants))


def test_a_grant_is_for_its_path_and_what_is_below_by_components() -> None:
    identity = granted(b"/a/b", b"/c")
    for path in (b"/a/b", b"/a/b/c", b"/c/\xff"):
        may_lease(identity, path, NOW)
    for path in (b"", b"/a", b"/a/bc", b"/d", b"/C"):
        with pytest.raises(NotPermitted) as caught:
            may_lease(identity, path, NOW)
        assert "/a/b, /c" in caught.value.hint
        assert (caught.value.path, caught.value.exit_code) == (path, 6)


def test_only_who_may_change_everything_may_make_changes_without_a_path() -> None:
    may_lease(granted(b""), None, NOW)
    may_lease(granted(b""), b"/any/where", NOW)
    with pytest.raises(NotPermitted):
        may_lease(granted(b"/a"), None, NOW)


def test_no_path_leads_out_of_a_grant() -> None:
    for path in (b"/a/../b", b"/a//b", b"/a/", b"a", b"/a/./b"):
        with pytest.raises(BadName):
            may_lease(granted(b"/a"), path, NOW)


def test_a_key_that_was_revoked_or_has_expired_permits_nothing() -> None:
    active = record(b"")
    must_be_active(Identity.of_key(active), NOW + timedelta(days=1, seconds=-1))
    with pytest.raises(NotPermitted, match="expired at 2026-11-26 12:00"):
        may_lease(Identity.of_key(active), b"/a", NOW + timedelta(days=1))
    with pytest.raises(NotPermitted, match="revoked"):
        may_lease(Identity.of_key(active.revoked()), b"/a", NOW)
