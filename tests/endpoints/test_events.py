"""Listeners hear of each new revision at once, of none twice, and never of an older one."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from starlette.types import Message

from stratus.endpoints import events as module
from stratus.endpoints.events import event_routes
from stratus.endpoints.watching import Watchers
from stratus.errors import NoSuchRepository, StoreError
from stratus.stores.contract import Blob, Store
from stratus.stores.memory import MemoryStore
from tests.endpoints.listening import Serving, events, revision, serving
from tests.repositories import FQRN, new_repository, put

EVENTS = f"/api/v1/repositories/{FQRN}/events"
NOTIFICATIONS = f"/api/v1/repositories/{FQRN}/notifications"
SUBSCRIBE = "/api/v1/notifications/subscribe"
PUBLISH = "/api/v1/notifications/publish"
SUBSCRIPTION = json.dumps({"version": 1, "repository": FQRN}).encode()


class Counted(MemoryStore):
    """Counts the looks at the manifest; fails if it is told to."""

    looks = 0
    broken = False

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        if key == f"{FQRN}/.cvmfspublished":
            self.looks += 1
            if self.broken:
                raise StoreError("the store is broken")
        return super().get(key, span)


@pytest.fixture
def store() -> Counted:
    store = Counted()
    new_repository(store)
    store.looks = 0
    return store


def only(store: Store) -> Callable[[str], Store]:
    def find(fqrn: str) -> Store:
        if fqrn != FQRN:
            raise NoSuchRepository(f"no {fqrn}")
        return store

    return find


@pytest.fixture
def server(store: Counted) -> Iterator[Serving]:
    with serving(only(store)) as made:
        yield made


def manifest(store: Store) -> bytes:
    return store.get(f"{FQRN}/.cvmfspublished").data


def test_a_stream_begins_with_the_newest_revision(server: Serving, store: Counted) -> None:
    with server.listen(EVENTS) as pieces:
        event = next(events(pieces))
    assert event.id == "1"
    message = json.loads(event.data)
    assert (message["type"], message["repository"], message["revision"]) == ("activity", FQRN, 1)
    assert base64.b64decode(message["manifest"]) == manifest(store)


def test_each_revision_is_one_event(server: Serving, store: Counted) -> None:
    with server.listen(EVENTS) as pieces:
        heard = events(pieces)
        next(heard)
        for number in (2, 3, 4):
            put(store, {f"f{number}": b"x"})
            server.watchers.announce(FQRN)
            server.watchers.announce(FQRN)
            event = next(heard)
            assert (event.id, revision(event.data)) == (str(number), number)


def test_a_listener_hears_within_a_moment(server: Serving, store: Counted) -> None:
    with server.listen(EVENTS) as pieces:
        heard = events(pieces)
        next(heard)
        put(store, {"f": b"x"})
        before = time.monotonic()
        server.watchers.announce(FQRN)
        next(heard)
        assert time.monotonic() - before < 1


def test_who_resumes_hears_only_what_is_newer(server: Serving, store: Counted) -> None:
    put(store, {"f": b"x"})
    with server.listen(EVENTS, headers={"Last-Event-ID": "1"}) as pieces:
        assert next(events(pieces)).id == "2"
    with server.listen(EVENTS, headers={"Last-Event-ID": "2"}) as pieces:
        assert next(pieces).endswith(b": stratus\n\n")
        put(store, {"g": b"x"})
        server.watchers.announce(FQRN)
        assert next(events(pieces)).id == "3"
    with server.listen(EVENTS, headers={"Last-Event-ID": "nonsense"}) as pieces:
        assert next(events(pieces)).id == "3"


def test_a_quiet_stream_is_kept_alive(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    with server.listen(EVENTS, headers={"Last-Event-ID": "1"}) as pieces:
        next(pieces)
        assert [next(pieces) for _ in range(3)] == [b": \n\n"] * 3


def test_without_an_announcement_it_is_seen_by_polling(store: Counted) -> None:
    with serving(only(store), poll=0.05) as server, server.listen(EVENTS) as pieces:
        heard = events(pieces)
        next(heard)
        put(store, {"f": b"x"})
        assert next(heard).id == "2"


def test_one_look_serves_all_listeners_and_without_any_there_is_none(store: Counted) -> None:
    with serving(only(store)) as server:
        heard: list[bytes] = []

        def listen() -> None:
            heard.append(server.ask(f"{NOTIFICATIONS}?after=1&wait=20")[2])

        threads = [threading.Thread(target=listen) for _ in range(20)]
        for thread in threads:
            thread.start()
        while server.watchers.count < 20:
            time.sleep(0.01)
        while not store.looks:
            time.sleep(0.01)
        assert store.looks == 1
        put(store, {"f": b"x"})
        before = store.looks
        server.watchers.announce(FQRN)
        for thread in threads:
            thread.join()
        assert [revision(message) for message in heard] == [2] * 20
        assert store.looks == before + 1
        while server.watchers.count:
            time.sleep(0.01)
        server.watchers.announce(FQRN)
        time.sleep(0.1)
        assert store.looks == before + 1


def test_nobody_is_led_back(store: Counted) -> None:
    old = manifest(store)
    put(store, {"f": b"x"})
    new = manifest(store)
    with serving(only(store)) as server, server.listen(EVENTS) as pieces:
        heard = events(pieces)
        assert next(heard).id == "2"
        store.put(f"{FQRN}/.cvmfspublished", old)
        server.watchers.announce(FQRN)
        assert server.ask(f"{NOTIFICATIONS}?after=2&wait=0")[0] == 204
        assert revision(server.ask(NOTIFICATIONS)[2]) == 2
        store.put(f"{FQRN}/.cvmfspublished", new)
        put(store, {"g": b"x"})
        server.watchers.announce(FQRN)
        assert next(heard).id == "3"


def test_a_store_that_fails_is_asked_again(store: Counted, caplog: pytest.LogCaptureFixture) -> None:
    with serving(only(store), poll=0.02) as server, server.listen(EVENTS) as pieces:
        heard = events(pieces)
        next(heard)
        store.broken = True
        while "the store is broken" not in caplog.text:
            time.sleep(0.01)
        store.broken = False
        put(store, {"f": b"x"})
        assert next(heard).id == "2"


def test_a_long_poll_waits_for_a_newer_revision_and_no_longer(server: Serving, store: Counted) -> None:
    status, headers, body = server.ask(f"{NOTIFICATIONS}?after=0")
    assert (status, headers["Content-Type"], revision(body)) == (200, "application/json", 1)
    assert headers["Cache-Control"] == "no-store"
    before = time.monotonic()
    assert server.ask(f"{NOTIFICATIONS}?after=1&wait=1")[::2] == (204, b"")
    assert time.monotonic() - before >= 1
    assert server.ask(f"{NOTIFICATIONS}?after=1&wait=0")[0] == 204


@pytest.mark.parametrize("query", ["after=x", "after=-2", "wait=x", "after=1&wait=-5", "wait=1e3", "after="])
def test_a_question_that_makes_no_sense_is_a_problem(server: Serving, query: str) -> None:
    status, headers, body = server.ask(f"{NOTIFICATIONS}?{query}")
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert json.loads(body)["status"] == 400


@pytest.mark.parametrize("name", ["other.example.org", "no%20name", "x" * 300, ".stratus"])
def test_a_repository_that_is_not_there_is_not_found(server: Serving, name: str) -> None:
    for what in ("events", "notifications"):
        status, headers, body = server.ask(f"/api/v1/repositories/{name}/{what}")
        assert (status, headers["Content-Type"]) == (404, "application/problem+json")
        assert json.loads(body)["code"] == "no_such_repository"


def test_a_store_without_the_repository_is_not_found_until_it_has_one() -> None:
    store = MemoryStore()
    with serving(lambda _: store) as server:
        assert server.ask(NOTIFICATIONS)[0] == 404
        new_repository(store)
        assert server.ask(NOTIFICATIONS)[0] == 200


def test_a_store_that_fails_at_first_is_a_bad_gateway(server: Serving, store: Counted) -> None:
    store.broken = True
    assert server.ask(EVENTS)[0] == 502
    store.broken = False
    assert server.ask(NOTIFICATIONS)[0] == 200


def test_there_are_so_many_listeners_and_no_more(store: Counted) -> None:
    with serving(only(store), listeners=2) as server:
        with server.listen(EVENTS) as one, server.listen(EVENTS) as other:
            next(one), next(other)
            for target in (EVENTS, NOTIFICATIONS):
                status, headers, body = server.ask(target)
                assert (status, json.loads(body)["code"]) == (503, "busy")
                assert int(headers["Retry-After"]) > 0
        while server.watchers.count:
            time.sleep(0.01)
        assert server.ask(NOTIFICATIONS)[0] == 200


def test_who_does_not_take_what_is_sent_is_dropped(store: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOW", 0.05)
    watchers = Watchers(only(store))
    route = event_routes(watchers)[0]

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def drop() -> None:
        scope = {"type": "http", "method": "GET", "path": EVENTS, "headers": [], "query_string": b""}
        _, matched = route.matches(scope)
        await asyncio.wait_for(route.handle({**scope, **matched}, never, stuck), 5)

    asyncio.run(drop())
    assert watchers.count == 0


def test_streams_end_with_the_server(store: Counted) -> None:
    with serving(only(store)) as server:
        with server.listen(EVENTS) as pieces:
            next(pieces)
            server.watchers.close()
            assert b"".join(pieces).count(b"data") <= 1
        status, headers, _ = server.ask(EVENTS)
        assert (status, headers["Retry-After"]) == (503, "1")


def test_a_stock_client_hears_lines_of_data_and_nothing_else(
    server: Serving, store: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    monkeypatch.setattr(module, "_STOCK_IDLE", 1)
    with server.listen(SUBSCRIBE, SUBSCRIPTION) as pieces:
        first = next(pieces)
        put(store, {"f": b"x"})
        server.watchers.announce(FQRN)
        *lines, end = (first + b"".join(pieces)).split(b"\n\n")
    assert [revision(line.removeprefix(b"data: ")) for line in lines] == [1, 2]
    assert json.loads(end) == {"status": "timeout"}
    assert server.ask(SUBSCRIBE, body=b"{}")[0] == 400


def test_a_stock_publisher_makes_us_look(server: Serving, store: Counted) -> None:
    with server.listen(EVENTS) as pieces:
        heard = events(pieces)
        message = next(heard).data
        put(store, {"f": b"x"})
        for _ in range(10):
            assert server.ask(PUBLISH, "POST", message)[::2] == (200, b'{"status":"ok"}')
        before = store.looks
        assert next(heard).id == "2"
        assert store.looks <= before + 1
    assert server.ask(PUBLISH, "POST", b"{}")[0] == 400
    assert server.ask(PUBLISH, "POST", b"x" * (2 << 20))[0] == 400


def test_a_head_request_ends(server: Serving) -> None:
    for target in (EVENTS, NOTIFICATIONS):
        assert server.ask(target, "HEAD")[::2] == (200, b"")
