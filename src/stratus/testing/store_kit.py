"""What every store must do, as tests: subclass, give a fixture, run pytest::

    class TestMyStore(StoreTests):
        @pytest.fixture
        def store(self) -> MyStore:
            return MyStore(...)  # empty, of its own for each test

A store that can only be read subclasses ``ReadingTests`` and says with the fixture ``fill`` how a key gets into it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from stratus.errors import Changed, Exists, NotFound, UsageError
from stratus.stores.contract import ABSENT, Created, Exchange, Item, Match, Present, Stat, Store, Version

Fill = Callable[[str, bytes], object]

ODD_KEYS = (
    "odd/!@ +%&=~",
    "odd/%2F%41",
    "odd/'\"<>#?;:,*()[]{}|^`$",
    "odd/größer/日本語/🚀",
    "odd/ space at both ends ",
    "odd/...",
    "odd/-",
)
LONG_COMPONENT = f"long/{'c' * 255}"
LONG_KEY = "/".join(["long", *(letter * 200 for letter in "abcd"), "end"])
BAD_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    "a/./b",
    "../a",
    f"a/{'c' * 256}",
    f"{'a' * 200}/" * 5 + "b" * 20,
    "a\nb",
    "a\\b",
    "a\udc80",
)


def object_key(data: bytes) -> str:
    """The key of an object, as in a repository."""
    text = hashlib.sha1(data).hexdigest()
    return f"kit.example.org/data/{text[:2]}/{text[2:]}"


class ReadingTests:
    """What can be read of a store."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def fill(self, store: Store) -> Fill:
        return store.put

    @pytest.mark.parametrize("size", [0, 1, 1 << 20])
    @pytest.mark.parametrize("name", ["pointer", "object"])
    def test_what_was_put_is_read(self, store: Store, fill: Fill, name: str, size: int) -> None:
        data = os.urandom(size)
        key = object_key(data) if name == "object" else "kit.example.org/.cvmfspublished"
        fill(key, data)
        blob = store.get(key)
        assert blob.data == data
        assert isinstance(blob.data, bytes)
        assert blob.version

    def test_a_blob_says_when_the_store_took_it(self, store: Store, fill: Fill) -> None:
        before = store.now()
        fill("a", b"1")
        modified = store.get("a").modified
        assert before - timedelta(seconds=2) <= modified <= store.now() + timedelta(seconds=2)
        assert modified.utcoffset() == timedelta()
        assert modified.microsecond == 0

    @pytest.mark.parametrize("key", ["nothing", "x", "x/y/z", object_key(b"nothing")])
    def test_a_missing_key_is_not_found(self, store: Store, fill: Fill, key: str) -> None:
        fill("x/y", b"1")
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.get(key, (0, 1))

    @pytest.mark.parametrize("name", ["pointer", "object"])
    @pytest.mark.parametrize(
        ("span", "part"),
        [((0, 3), b"012"), ((3, 7), b"3456"), ((7, 100), b"789"), ((10, 12), b""), ((100, 200), b""), ((4, 4), b"")],
    )
    def test_a_span_ends_before_its_end_and_is_cut_at_the_end(
        self, store: Store, fill: Fill, name: str, span: tuple[int, int], part: bytes
    ) -> None:
        data = b"0123456789"
        key = object_key(data) if name == "object" else "a"
        fill(key, data)
        blob = store.get(key, span)
        assert blob.data == part
        assert blob.version == store.get(key).version

    def test_a_span_of_nothing_is_nothing(self, store: Store, fill: Fill) -> None:
        fill("empty", b"")
        assert store.get("empty", (0, 10)).data == b""

    def test_get_many_gives_every_key_once(self, store: Store, fill: Fill) -> None:
        contents = {object_key(data): data for data in (b"%d" % number for number in range(50))}
        for key, data in contents.items():
            fill(key, data)
        wanted = [*contents, "nothing", object_key(b"nothing")]
        found = list(store.get_many(wanted))
        assert sorted(key for key, _ in found) == sorted(wanted)
        assert {key: blob.data for key, blob in found if blob is not None} == contents

    def test_missing_names_what_is_not_there(self, store: Store, fill: Fill) -> None:
        fill("x/y", b"1")
        fill(object_key(b"1"), b"1")
        absent = {"x", "x/z", object_key(b"2")}
        assert store.missing(["x/y", object_key(b"1"), *absent]) == absent
        assert store.missing([]) == set()

    @pytest.mark.parametrize("key", [*ODD_KEYS, LONG_COMPONENT, LONG_KEY])
    def test_keys_hold_odd_characters_and_are_long(self, store: Store, fill: Fill, key: str) -> None:
        fill(key, b"1")
        assert store.get(key).data == b"1"
        assert store.missing([key]) == set()

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_keys_that_some_store_cannot_hold_are_refused_by_all(self, store: Store, key: str) -> None:
        with pytest.raises(UsageError):
            store.get(key)

    def test_the_clock_is_right_to_two_seconds(self, store: Store) -> None:
        assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=2)

    def test_observers_are_told_each_read(self, store: Store, fill: Fill) -> None:
        fill("a", b"123")
        seen: list[Exchange] = []
        twice: list[Exchange] = []
        watched = store.observed(seen.append).observed(twice.append)
        watched.get("a")
        watched.missing(["a", "b"])
        with pytest.raises(NotFound):
            watched.get("b")
        store.get("a")
        assert sorted((one.verb, one.key, one.status) for one in seen) == [
            ("get", "a", 200),
            ("get", "b", 404),
            ("head", "a", 200),
            ("head", "b", 404),
        ]
        assert [one.received for one in seen if one.verb == "get" and one.status == 200] == [3]
        assert twice == seen


class StoreTests(ReadingTests):
    """What a whole store does."""

    contenders = 100  # threads that want one key at the same moment

    # -- versions and conditions -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["a", object_key(b"1")])
    def test_put_get_and_list_agree_on_the_version(self, store: Store, key: str) -> None:
        version = store.put(key, b"1")
        (stat,) = store.list("")
        assert store.get(key).version == stat.version == version
        assert (stat.key, stat.size, stat.modified) == (key, 1, store.get(key).modified)

    def test_equal_bytes_have_equal_versions(self, store: Store) -> None:
        first = store.put("a", b"1")
        assert store.put("b", b"1") == first
        assert store.put("a", b"2") != first
        assert store.put("a", b"1", Match(store.get("a").version)) == first

    @pytest.mark.parametrize("key", ["a", "x/.stratus/b", object_key(b"1")])
    def test_absent_wants_a_key_that_is_not_there(self, store: Store, key: str) -> None:
        version = store.put(key, b"1", ABSENT)
        with pytest.raises(Exists):
            store.put(key, b"2", ABSENT)
        assert (store.get(key).data, store.get(key).version) == (b"1", version)

    def test_match_wants_the_version_that_is_there(self, store: Store) -> None:
        first = store.put("a", b"1")
        second = store.put("a", b"2", Match(first))
        for stale in (first, Version("0" * 32)):
            with pytest.raises(Changed):
                store.put("a", b"3", Match(stale))
        assert (store.get("a").data, store.get("a").version) == (b"2", second)

    def test_match_wants_a_key_that_is_there(self, store: Store) -> None:
        version = store.put("a", b"1")
        store.delete(["a"])
        for key in ("a", "never/there"):
            with pytest.raises(Changed):
                store.put(key, b"2", Match(version))
        assert store.missing(["a", "never/there"]) == {"a", "never/there"}

    def test_of_many_that_want_an_absent_key_one_gets_it(self, store: Store) -> None:
        def contend(number: int) -> bool:
            try:
                store.put("contended/key", b"%d" % number, ABSENT)
            except Exists:
                return False
            return True

        with ThreadPoolExecutor(self.contenders) as pool:
            won = list(pool.map(contend, range(self.contenders)))
        assert won.count(True) == 1
        assert store.get("contended/key").data == b"%d" % won.index(True)

    def test_of_many_that_saw_the_same_version_one_replaces_it(self, store: Store) -> None:
        seen = store.put("contended/key", b"seen")

        def contend(number: int) -> bool:
            try:
                store.put("contended/key", b"%d" % number, Match(seen))
            except Changed:
                return False
            return True

        with ThreadPoolExecutor(self.contenders) as pool:
            won = list(pool.map(contend, range(self.contenders)))
        assert won.count(True) == 1
        assert store.get("contended/key").data == b"%d" % won.index(True)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_can_be_put(self, store: Store, kind: Callable[[bytes], bytes]) -> None:
        for key in ("a", object_key(b"1234")):
            store.put(key, kind(b"1234"))
            assert store.get(key).data == b"1234"

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys_cannot_be_written_either(self, store: Store, key: str) -> None:
        for write in (
            lambda: store.put(key, b""),
            lambda: store.delete([key]),
            lambda: store.prepare_put(key, b"", ABSENT),
            lambda: list(store.put_many([Item(key, b"")])),
        ):
            with pytest.raises(UsageError):
                write()

    # -- listings ----------------------------------------------------------------------------------------------------

    def test_a_listing_finds_byte_prefixes(self, store: Store) -> None:
        for key in ("x/a!b", "x/a!c/d", "x/a", "x/ab", "y"):
            store.put(key, b"1")
        assert _keys(store, "x/a!") == ["x/a!b", "x/a!c/d"]
        assert _keys(store, "x/a!c") == _keys(store, "x/a!c/") == ["x/a!c/d"]
        assert _keys(store, "x/a") == ["x/a", "x/a!b", "x/a!c/d", "x/ab"]
        assert _keys(store, "x") == _keys(store, "x/") == ["x/a", "x/a!b", "x/a!c/d", "x/ab"]
        assert _keys(store, "") == ["x/a", "x/a!b", "x/a!c/d", "x/ab", "y"]
        assert _keys(store, "z") == _keys(store, "x/a!b/") == _keys(store, "x//") == _keys(store, "/") == []

    def test_a_listing_gives_keys_as_they_were_put(self, store: Store) -> None:
        keys = {*ODD_KEYS, LONG_COMPONENT, LONG_KEY}
        for key in keys:
            store.put(key, b"1")
        assert set(_keys(store, "")) == keys
        for key in keys:
            assert key in _keys(store, key[:-1])

    def test_a_listing_goes_on_after_a_key(self, store: Store) -> None:
        keys = [f"list/{number:02}!{'x' * (number % 3)}" for number in range(10)]
        for key in keys:
            store.put(key, b"1")
        assert _keys(store, "list/", after=keys[3]) == keys[4:]
        assert _keys(store, "list/0", after=keys[9]) == []

    def test_a_listing_of_more_than_one_page_is_whole(self, store: Store) -> None:
        keys = {f"kit.example.org/data/{number % 256:02x}/{number:038x}" for number in range(1005)}
        assert Counter(map(type, store.put_many(Item(key, b"1") for key in keys))) == {Created: 1005}
        seen: list[Exchange] = []
        assert set(_keys(store.observed(seen.append), "kit.example.org/data/")) == keys
        assert Counter(one.verb for one in seen) == {"list": 2}
        assert store.delete(keys) == keys
        assert _keys(store, "") == []

    # -- deleting and copying ----------------------------------------------------------------------------------------

    def test_a_delete_names_what_is_done_and_what_was_never_there_is(self, store: Store) -> None:
        keys = {*ODD_KEYS, LONG_KEY, object_key(b"1")}
        for key in keys:
            store.put(key, b"1")
        assert store.delete([*keys, "nothing"]) == {*keys, "nothing"}
        assert store.delete(["nothing"]) == {"nothing"}
        assert store.delete([]) == set()
        assert store.missing(keys) == keys

    def test_a_deleted_key_can_be_put_again(self, store: Store) -> None:
        for _ in range(3):
            store.put("deep/er/key", b"1", ABSENT)
            store.delete(["deep/er/key"])

    def test_put_many_tells_created_from_present(self, store: Store) -> None:
        bodies = [b"%d" % number for number in range(100)]
        store.put(object_key(bodies[0]), bodies[0])
        results = set(store.put_many(Item(object_key(body), body) for body in bodies))
        assert results == {Present(object_key(bodies[0])), *(Created(object_key(body)) for body in bodies[1:])}
        assert store.missing(map(object_key, bodies)) == set()

    def test_put_many_takes_a_bounded_number_ahead(self, store: Store) -> None:
        taken = 0

        def items() -> object:
            nonlocal taken
            while True:
                taken += 1
                yield Item(f"ahead/{taken}", b"1")

        results = store.put_many(items())  # type: ignore[arg-type]
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert taken < 100

    def test_a_copy_is_made_of_the_version_that_was_named(self, store: Store) -> None:
        version = store.put(".stratus/staging/1", b"1")
        target = object_key(b"1")
        assert store.copy(".stratus/staging/1", target, version) == store.get(target).version
        assert store.get(target).data == b"1"
        store.put(".stratus/staging/1", b"2")
        with pytest.raises(Changed):
            store.copy(".stratus/staging/1", target, version)
        with pytest.raises(NotFound):
            store.copy(".stratus/staging/2", target, version)
        assert store.get(target).data == b"1"

    # -- prepared requests -------------------------------------------------------------------------------------------

    def test_a_prepared_put_does_nothing_before_it_is_sent(self, store: Store) -> None:
        prepared = store.prepare_put("a", b"1", ABSENT)
        assert store.missing(["a"]) == {"a"}
        version = prepared.send()
        assert (store.get("a").data, store.get("a").version) == (b"1", version)

    def test_a_prepared_put_meets_its_condition_when_it_is_sent(self, store: Store) -> None:
        seen = store.put("a", b"1")
        late, lost = store.prepare_put("a", b"2", Match(seen)), store.prepare_put("b", b"2", ABSENT)
        store.put("a", b"3")
        store.put("b", b"3")
        with pytest.raises(Changed):
            late.send()
        with pytest.raises(Exists):
            lost.send()
        assert (store.get("a").data, store.get("b").data) == (b"3", b"3")

    def test_a_prepared_delete_does_nothing_before_it_is_sent(self, store: Store) -> None:
        keys = {"a", "b", "c"}
        for key in keys:
            store.put(key, b"1")
        prepared = store.prepare_delete(keys)
        assert store.missing(keys) == set()
        assert prepared.send() == keys
        assert store.missing(keys) == keys

    def test_a_prepared_request_is_sent_once_or_dropped(self, store: Store) -> None:
        sent, dropped = store.prepare_put("a", b"1", ABSENT), store.prepare_delete(["a"])
        sent.send()
        sent.close()
        dropped.close()
        dropped.close()
        for prepared in (sent, dropped):
            with pytest.raises(UsageError):
                prepared.send()
        assert store.missing(["a"]) == set()

    # -- the rest ----------------------------------------------------------------------------------------------------

    def test_observers_are_told_each_write(self, store: Store) -> None:
        store.now()
        seen: list[Exchange] = []
        watched = store.observed(seen.append)
        watched.put("a", b"123")
        with pytest.raises(Exists):
            watched.put("a", b"123", ABSENT)
        list(watched.put_many([Item(object_key(b"12"), b"12")]))
        prepared = watched.prepare_put("b", b"1", ABSENT)
        assert len(seen) == 3
        prepared.send()
        list(watched.list("a"))
        watched.delete(["a", "b"])
        assert [(one.verb, one.key, one.sent) for one in seen[:4]] == [
            ("put", "a", 3),
            ("put", "a", 3),
            ("put", object_key(b"12"), 2),
            ("put", "b", 1),
        ]
        assert [one.status for one in seen[:4]] == [200, 412, 200, 200]
        assert [(one.verb, one.key) for one in seen[4:]] == [("list", "a"), ("delete", "a")]

    def test_sync_may_be_called_at_any_time(self, store: Store) -> None:
        store.sync()
        store.put("a", b"1")
        store.sync()


def _keys(store: Store, prefix: str, after: str = "") -> list[str]:
    """The keys of a listing, sorted: only within a flat prefix is the order that of all stores."""
    found: list[Stat] = list(store.list(prefix, after))
    return sorted(stat.key for stat in found)
