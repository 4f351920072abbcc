"""Each signed request counts once, in one process and in many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from stratus.endpoints import replays
from stratus.endpoints.replays import MemoryReplays, Replays, SignAgain, StoreReplays
from stratus.errors import NotPermitted, StoreError
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.trust.request_signatures import Signed

FQRN = "sw.example.org"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def signed(nonce: str = "n", seconds: float = 0, key: str = "a" * 20) -> Signed:
    return Signed(key, nonce, NOW + timedelta(seconds=seconds))


def took(seen: Replays, one: Signed, now: datetime = NOW, changes: bool = True) -> bool:
    try:
        seen.once(FQRN, one, now, changes)
    except NotPermitted:
        return False
    return True


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_nonce_counts_once_for_each_key(store: MemoryStore) -> None:
    for seen in (MemoryReplays(), StoreReplays(lambda _: store)):
        assert [took(seen, signed()), took(seen, signed()), took(seen, signed("m"))] == [True, False, True]
        assert took(seen, signed(key="b" * 20))
        assert [took(seen, signed("r"), changes=False) for _ in range(2)] == [True, False]


def test_of_many_instances_at_once_one_takes_it(store: MemoryStore) -> None:
    instances = [StoreReplays(lambda _: store) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for nonce in map(str, range(50)):
            assert sum(pool.map(lambda seen, nonce=nonce: took(seen, signed(nonce)), instances)) == 1


def test_only_what_may_change_something_leaves_a_mark_whatever_the_nonce_is(store: MemoryStore) -> None:
    seen = StoreReplays(lambda _: store)
    took(seen, signed("reads"), changes=False)
    assert list(store.list("")) == []
    for nonce in ("../../x", "a/b", "", "x" * 5000, "\0"):
        assert took(seen, signed(nonce))
    prefix = Layout(FQRN).seen("a" * 20)
    assert [stat.key.startswith(f"{prefix}/") for stat in store.list("")] == [True] * 5
    assert all(len(stat.key) < 100 for stat in store.list(""))


def test_without_the_store_nothing_is_taken() -> None:
    def down(_: str) -> Store:
        raise StoreError("no answer")

    with pytest.raises(StoreError):
        StoreReplays(down).once(FQRN, signed(), NOW, True)


def test_what_was_signed_before_the_start_may_have_been_taken_before() -> None:
    seen = MemoryReplays(NOW)
    assert took(seen, signed("early", -1), changes=False)
    with pytest.raises(SignAgain):
        seen.once(FQRN, signed("late", -1), NOW, True)
    assert took(seen, signed("now"))


def test_rather_than_forget_what_is_still_good_nothing_more_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_MOST", 3)
    seen = MemoryReplays()
    assert [took(seen, signed(nonce)) for nonce in "abcd"] == [True, True, True, False]
    assert not took(seen, signed("a"))
    later = NOW + timedelta(minutes=11)
    assert took(seen, signed("e", 660), later)
    assert took(seen, signed("f", 660), later)
