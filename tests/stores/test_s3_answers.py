"""What becomes of answers that a healthy server seldom gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stratus.errors import Changed, Refused, StoreError, Unknown, Unsuitable
from stratus.stores.contract import ABSENT, Condition, Exchange, Item, Match, Version
from stratus.stores.s3 import S3Store
from stratus.stores.s3_place import FixedKeys, Place
from stratus.testing.store_kit import object_key
from tests.stores.serving import Answer, Script, serving

OBJECT = object_key(b"1")
MATCH = Match(Version("0" * 32))
GOOD: Answer = (200, {"ETag": '"1"', "Last-Modified": "Wed, 25 Nov 2026 12:00:00 GMT"}, b"1")


def error(status: int, code: str = "Code", **headers: str) -> Answer:
    return (status, headers, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def store(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setattr("stratus.stores.retries._FIRST_PAUSE", 0.001)
    with serving(script.handler()) as url:
        store = S3Store.at(Place("s3://bucket", "bucket", "", f"{url}/bucket", "us-east-1", FixedKeys("key", "secret")))
        script.say(GOOD)
        store.now()
        yield store


@pytest.mark.parametrize("key", ["a", OBJECT])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_passes(store: S3Store, script: Script, key: str, status: int) -> None:
    seen: list[Exchange] = []
    watched = store.observed(seen.append)
    requests: list[Callable[[], object]] = [lambda: watched.get(key), lambda: watched.put(key, b"1")]
    for request in requests:
        script.say(error(status), error(status), GOOD)
        request()
        assert len(script.asked) == 3
    assert [one.status for one in seen] == [status, status, 200] * 2


@pytest.mark.parametrize("key", ["a", OBJECT])
def test_a_server_that_has_too_much_to_do_is_given_more_time_than_one_in_trouble(
    store: S3Store, script: Script, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratus.stores.retries._LONGEST_PAUSE", 0.001)
    requests: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.put(key, b"1"),
        lambda: list(store.put_many([Item(key, b"1")])) if key == OBJECT else store.get(key),
    ]
    for request in requests:
        script.say(*[error(503)] * 9, GOOD)
        request()
        script.say(*[error(500)] * 9)
        with pytest.raises(StoreError):
            request()
        assert len(script.asked) == 6


@pytest.mark.parametrize(("key", "when"), [("a", ABSENT), ("a", MATCH), (OBJECT, ABSENT)])
def test_a_server_in_trouble_may_have_done_a_conditional_put(
    store: S3Store, script: Script, key: str, when: Condition
) -> None:
    script.say(error(500), GOOD)
    with pytest.raises(Unknown):
        store.put(key, b"1", when)
    assert len(script.asked) == 1


def test_a_conflict_did_nothing_and_is_sent_again(store: S3Store, script: Script) -> None:
    prepared = store.prepare_put("a", b"1", MATCH)
    requests: list[Callable[[], object]] = [lambda: store.put("a", b"1", MATCH), prepared.send]
    for request in requests:
        script.say(error(409, "ConditionalRequestConflict"), GOOD)
        assert request() == "1"
        assert len(script.asked) == 2


def test_match_over_a_key_that_is_gone_is_changed_whatever_the_server_says(store: S3Store, script: Script) -> None:
    for answer in (error(404, "NoSuchKey"), error(412, "PreconditionFailed")):
        script.say(answer)
        with pytest.raises(Changed):
            store.put("a", b"1", MATCH)


def test_a_server_without_conditional_writes_is_unsuitable(store: S3Store, script: Script) -> None:
    script.say(error(501, "NotImplemented"))
    with pytest.raises(Unsuitable):
        store.put("a", b"1", ABSENT)


@pytest.mark.parametrize("key", ["a", OBJECT])
def test_who_may_not_is_refused_at_once(store: S3Store, script: Script, key: str) -> None:
    script.say(error(403, "AccessDenied"))
    with pytest.raises(Refused) as caught:
        store.get(key)
    assert "credentials" in caught.value.hint
    assert len(script.asked) == 1


def test_a_bucket_elsewhere_is_told(store: S3Store, script: Script) -> None:
    script.say(error(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"}))
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert "region=eu-west-1" in caught.value.hint


def test_a_bulk_delete_is_believed_key_by_key(store: S3Store, script: Script) -> None:
    body = (
        '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Deleted><Key>a&amp;b</Key></Deleted>'
        "<Error><Key>c</Key><Code>InternalError</Code></Error></DeleteResult>"
    )
    script.say((200, {}, body.encode()))
    assert store.delete(["a&b", "c", "d"]) == {"a&b"}


@pytest.mark.parametrize("keys", [["a"], ["a", "b"]])
def test_a_delete_is_never_repeated(store: S3Store, script: Script, keys: list[str]) -> None:
    script.say(error(503))
    assert store.delete(keys) == set()
    assert len(script.asked) == 1


def test_what_is_no_listing_is_no_empty_store(store: S3Store, script: Script) -> None:
    script.say((200, {}, b"<html>Welcome"))
    with pytest.raises(StoreError, match="listing"):
        list(store.list(""))


def test_a_copy_that_fails_after_the_answer_began_has_failed(store: S3Store, script: Script) -> None:
    script.say(error(200, "InternalError"))
    with pytest.raises(StoreError, match="InternalError"):
        store.copy("a", "b", Version("1"))
