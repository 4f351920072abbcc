from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from secrets import token_hex

import msgspec
import pytest
import urllib3

from stratus.errors import Changed, Exists, NotFound, Refused, StoreError, Unknown
from stratus.stores import s3_wire
from stratus.stores.clock import Clock
from stratus.stores.contract import (
    ABSENT,
    ALWAYS,
    OBJECT_HEADERS,
    POINTER_HEADERS,
    PRIVATE_HEADERS,
    Created,
    Exchange,
    Headers,
    Item,
    Match,
)
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from stratus.testing.store_kit import StoreTests, object_key
from tests.conftest import BUCKET
from tests.stores.proxy import Mood, Proxy, proxy_to


class TestS3Store(StoreTests):
    @pytest.fixture
    def store(self, s3_store: S3Store) -> S3Store:
        return s3_store


@pytest.fixture
def proxy(s3_server: LocalS3) -> Iterator[Proxy]:
    with proxy_to(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxied(s3_store: S3Store, proxy: Proxy) -> S3Store:
    """The store of ``s3_store`` behind the proxy."""
    return S3Store.at(msgspec.structs.replace(s3_store.place, base=f"{proxy.endpoint}/{BUCKET}"))


# -- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "headers", "stored"),
    [
        (object_key(b"1"), None, OBJECT_HEADERS),
        ("kit.example.org/.cvmfspublished", None, POINTER_HEADERS),
        (".stratus/kit.example.org/lock", None, PRIVATE_HEADERS),
        ("a", Headers("text/plain", "max-age=7"), Headers("text/plain", "max-age=7")),
        ("b", Headers("text/plain"), Headers("text/plain", "")),
    ],
)
@pytest.mark.parametrize("when", [ALWAYS, ABSENT])
def test_headers_are_stored_with_an_object(
    s3_store: S3Store, key: str, headers: Headers | None, stored: Headers, when: object
) -> None:
    s3_store.put(key, b"1", when, headers)  # type: ignore[arg-type]
    assert _headers(s3_store, key) == stored


def test_a_copy_has_the_headers_of_its_new_key(s3_store: S3Store) -> None:
    version = s3_store.put(".stratus/staging/1", b"1")
    s3_store.copy(".stratus/staging/1", object_key(b"1"), version)
    assert _headers(s3_store, object_key(b"1")) == OBJECT_HEADERS


def _headers(store: S3Store, key: str) -> Headers:
    wire = s3_wire.Wire(store.place)
    reply = wire.send(wire.sign("get", "GET", key), lambda _: None)
    return Headers(reply.headers["content-type"], reply.headers.get("cache-control", ""))


# -- answers that are lost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", object_key(b"1")])
def test_a_conditional_put_whose_answer_is_lost_is_unknown_though_it_landed(
    s3_store: S3Store, proxied: S3Store, proxy: Proxy, key: str
) -> None:
    proxied.now()
    seen: list[Exchange] = []
    proxy.lose(Mood.DROP_ANSWER)
    with pytest.raises(Unknown):
        proxied.observed(seen.append).put(key, b"1", ABSENT)
    assert proxy.arrived.acquire(timeout=5)
    assert s3_store.get(key).data == b"1"
    assert [(one.verb, one.status) for one in seen] == [("put", 0)]


def test_a_prepared_put_whose_answer_is_lost_is_unknown_too(s3_store: S3Store, proxied: S3Store, proxy: Proxy) -> None:
    prepared = proxied.prepare_put("a", b"2", Match(s3_store.put("a", b"1")))
    proxy.lose(Mood.DROP_ANSWER)
    with pytest.raises(Unknown):
        prepared.send()
    assert s3_store.get("a").data == b"2"


def test_a_conditional_put_that_times_out_is_unknown(
    s3_store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_wire, "READ_TIMEOUT", 0.5)
    slow = S3Store.at(msgspec.structs.replace(s3_store.place, base=f"{proxy.endpoint}/{BUCKET}"))
    slow.now()
    proxy.lose(Mood.STALL)
    with pytest.raises(Unknown):
        slow.put("a", b"1", Match(s3_store.put("a", b"0")))
    assert s3_store.get("a").data == b"1"


def test_a_conditional_put_that_was_never_sent_is_not_unknown(s3_store: S3Store) -> None:
    nowhere = S3Store.at(msgspec.structs.replace(s3_store.place, base="http://127.0.0.1:9/bucket"))
    for key in ("a", object_key(b"1")):
        with pytest.raises(StoreError) as caught:
            nowhere.put(key, b"1", ABSENT)
        assert not isinstance(caught.value, Unknown)


def test_reads_and_unconditional_puts_are_repeated(s3_store: S3Store, proxied: S3Store, proxy: Proxy) -> None:
    seen: list[Exchange] = []
    watched = proxied.observed(seen.append)
    for key in ("a", object_key(b"1")):
        seen.clear()
        for mood in (Mood.DROP_ANSWER, Mood.REFUSE):
            proxy.lose(mood, 1)
            watched.put(key, b"1")
            proxy.lose(mood, 1)
            assert watched.get(key).data == b"1"
            proxy.lose(mood, 1)
            assert watched.missing([key]) == set()
        lost = [one.verb for one in seen if one.status == 0]
        assert sorted(set(lost)) == ["get", "head", "put"]


def test_put_many_repeats_what_was_lost(proxied: S3Store, proxy: Proxy) -> None:
    items = [Item(object_key(body), body) for body in (b"1", b"2", b"3")]
    proxy.lose(Mood.REFUSE, 3)
    assert set(proxied.put_many(items)) == {Created(item.key) for item in items}


def test_a_delete_whose_answer_is_lost_is_not_done_and_not_repeated(
    s3_store: S3Store, proxied: S3Store, proxy: Proxy
) -> None:
    for keys in (["a"], ["b", "c"]):
        for key in keys:
            s3_store.put(key, b"1")
        seen: list[Exchange] = []
        proxy.lose(Mood.DROP_ANSWER)
        assert proxied.observed(seen.append).delete(keys) == set()
        assert proxy.arrived.acquire(timeout=5)
        assert s3_store.missing(keys) == set(keys)
        assert len(seen) == 1


def test_a_store_that_cannot_be_reached_says_where_it_looked(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratus.stores.retries._FIRST_PAUSE", 0.001)
    nowhere = S3Store.at(msgspec.structs.replace(s3_store.place, base="http://127.0.0.1:9/bucket"))
    for key in ("a", object_key(b"1")):
        with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:9/bucket/"):
            nowhere.get(key)


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "refused"), [(800, False), (1000, True)])
def test_a_prepared_request_is_refused_once_its_signature_has_run_out(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch, late: int, refused: bool
) -> None:
    s3_store.put("a", b"1")
    s3_store.now()
    now = Clock.now
    with monkeypatch.context() as patched:
        patched.setattr(Clock, "now", lambda clock: now(clock) - timedelta(seconds=late))
        put = s3_store.prepare_put("b", b"1", ABSENT)
        delete = s3_store.prepare_delete(["a"])
        several = s3_store.prepare_delete(["a", "c"])
    for prepared in (put, delete, several):
        if refused:
            with pytest.raises(Refused):
                prepared.send()
        else:
            prepared.send()
    assert s3_store.missing(["a", "b"]) == ({"b"} if refused else {"a"})


@pytest.mark.parametrize("wrong", [timedelta(hours=2), timedelta(hours=-2)])
def test_requests_are_dated_by_the_stores_clock_whatever_the_host_says(s3_store: S3Store, wrong: timedelta) -> None:
    for write in ("put", "put absent", "list", "prepared", "missing", "delete"):
        store = S3Store.at(s3_store.place)
        clock = store._wire.clock
        right = clock.now()
        clock._last = (clock._last[0] + wrong, clock._last[1])
        match write:
            case "put":
                store.put("a", b"1")
            case "put absent":
                store.put("b", b"1", ABSENT)
            case "list":
                assert {stat.key for stat in store.list("")} == {"a", "b"}
            case "missing":
                assert store.missing(["a", "d"]) == {"d"}
            case "delete":
                assert store.delete(["a"]) == {"a"}
            case "prepared":
                store.prepare_put("c", b"1", ABSENT).send()
        assert abs(store.now() - right) < timedelta(seconds=5)


# -- who may ---------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_refused(s3_store: S3Store, s3_server: LocalS3) -> None:
    stranger = LocalS3()
    stranger.endpoint, stranger.access_key = s3_server.endpoint, s3_server.access_key
    store = stranger.store(BUCKET, "x")
    for request in (
        lambda: store.get("a"),
        lambda: store.get(object_key(b"1")),
        lambda: store.put("a", b"1"),
        lambda: store.put("a", b"1", ABSENT),
        lambda: store.put(object_key(b"1"), b"1", ABSENT),
        lambda: store.missing(["a"]),
        lambda: list(store.list("")),
        lambda: store.delete(["a"]),
        lambda: store.delete(["a", "b"]),
    ):
        with pytest.raises(Refused):
            request()


def test_who_is_anonymous_finds_nothing_and_writes_nothing(s3_store: S3Store, s3_server: LocalS3) -> None:
    s3_store.put("a", b"1")
    stranger = s3_server.store(BUCKET, s3_store.place.prefix.rstrip("/"), anonymous=True)
    for key in ("a", object_key(b"1")):
        with pytest.raises(NotFound):
            stranger.get(key)
        assert stranger.missing([key]) == {key}
        with pytest.raises(Refused, match="403"):
            stranger.put("a", b"2")
    with pytest.raises(Refused) as caught:
        list(stranger.list(""))
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    with pytest.raises(Refused):
        stranger.presign_put("a", b"", 1, timedelta(minutes=1))


def test_a_bucket_that_is_not_there_is_no_empty_store(s3_server: LocalS3) -> None:
    store = s3_server.store(f"nothing-{token_hex(4)}")
    for key in ("a", object_key(b"1")):
        with pytest.raises(StoreError, match="bucket") as caught:
            store.get(key)
        assert not isinstance(caught.value, NotFound)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        list(store.list(""))


def test_a_grant_lets_anybody_put_the_one_body_once(s3_store: S3Store) -> None:
    key = object_key(b"right")
    grant = s3_store.presign_put(key, hashlib.sha1(b"right").digest(), 5, timedelta(minutes=5))
    assert timedelta(minutes=4) < grant.expires - s3_store.now() <= timedelta(minutes=5)
    assert _send(grant.url, b"wrong", grant.headers) == 400
    assert _send(grant.url, b"right and more", grant.headers) == 403
    for left_out in range(len(grant.headers)):
        fewer = grant.headers[:left_out] + grant.headers[left_out + 1 :]
        assert _send(grant.url, b"right", fewer) == 403
    assert s3_store.missing([key]) == {key}
    assert _send(grant.url, b"right", grant.headers) == 200
    assert _send(grant.url, b"right", grant.headers) == 412
    assert s3_store.get(key).data == b"right"
    assert _headers(s3_store, key) == OBJECT_HEADERS


def test_a_grant_without_a_hash_is_for_any_body_of_that_size(s3_store: S3Store) -> None:
    grant = s3_store.presign_put("staged", None, 5, timedelta(minutes=5))
    assert [_send(grant.url, body, grant.headers) for body in (b"first", b"other")] == [200, 200]
    assert [_send(grant.url, body, grant.headers) for body in (b"more than five", b"four")] == [403, 403]
    assert s3_store.get("staged").data == b"other"


def _send(url: str, body: bytes, headers: tuple[tuple[str, str], ...]) -> int:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("PUT", url, body=body, headers=dict(headers)).status


def test_versions_with_quotes_never_leave_the_store(s3_store: S3Store) -> None:
    version = s3_store.put("a", b"1")
    assert '"' not in version + s3_store.get("a").version + next(s3_store.list("a")).version
    with pytest.raises(Exists):
        s3_store.put("a", b"2", ABSENT)
    with pytest.raises(Changed):
        s3_store.put("a", b"2", Match(s3_store.put("b", b"2")))
