from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stratus.errors import Refused, Unsuitable, UsageError
from stratus.stores.contract import ABSENT, OBJECT_HEADERS, Headers
from stratus.stores.memory import MemoryStore
from stratus.testing.store_kit import StoreTests, object_key

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class TestMemoryStore(StoreTests):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_the_clock_is_the_one_that_was_given() -> None:
    store = MemoryStore(clock=lambda: NOON)
    store.put("a", b"1")
    assert store.now() == store.get("a").modified == NOON


def test_a_request_that_was_prepared_too_long_ago_is_refused() -> None:
    moment = NOON
    store = MemoryStore(clock=lambda: moment)
    good, late = store.prepare_put("a", b"1", ABSENT), store.prepare_delete(["a"])
    moment = NOON + timedelta(seconds=880)
    good.send()
    moment = NOON + timedelta(seconds=1000)
    with pytest.raises(Refused):
        late.send()
    assert store.missing(["a"]) == set()


def test_headers_are_kept() -> None:
    store = MemoryStore()
    store.put("a", b"1", headers=Headers("text/plain", "no-store"))
    store.put(object_key(b"1"), b"1")
    assert store.headers("a") == Headers("text/plain", "no-store")
    assert store.headers(object_key(b"1")) == OBJECT_HEADERS


def test_no_key_may_lie_below_another() -> None:
    store = MemoryStore()
    store.put("a/b/c", b"1")
    store.put("a/b!", b"1")
    for key in ("a", "a/b", "a/b/c/d"):
        with pytest.raises(UsageError):
            store.put(key, b"1")


def test_uploads_cannot_be_granted() -> None:
    with pytest.raises(Unsuitable):
        MemoryStore().presign_put("a", b"", 1, timedelta(minutes=1))
