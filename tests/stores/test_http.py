from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from stratus.errors import NotFound, Refused, StoreError, Unsuitable, UsageError
from stratus.stores.contract import ABSENT, Exchange, Item, Version
from stratus.stores.directory import DirectoryStore
from stratus.stores.http import HttpStore
from stratus.testing.store_kit import Fill, ReadingTests, object_key
from tests.stores.serving import Script, serving


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if "Accept-Encoding" in self.headers:
            self.send_error(400)
        else:
            super().do_GET()

    def list_directory(self, path: object) -> None:
        self.send_error(403)


class TestHttpStore(ReadingTests):
    @pytest.fixture
    def directory(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "base")

    @pytest.fixture
    def fill(self, directory: DirectoryStore) -> Fill:
        return directory.put

    @pytest.fixture
    def store(self, directory: DirectoryStore) -> Iterator[HttpStore]:
        with serving(functools.partial(_Files, directory=str(directory.path.parent))) as url:
            store = HttpStore(f"{url}/base/")
            yield store
            store._pool.clear()  # its connections keep the server's threads


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def store(script: Script) -> Iterator[HttpStore]:
    with serving(script.handler()) as url:
        yield HttpStore(url)


def test_trouble_passes(store: HttpStore, script: Script) -> None:
    script.say((503, {}, b""), (200, {"Content-Length": "9"}, b"body"), (429, {}, b""), (200, {}, b"body"))
    seen: list[Exchange] = []
    assert store.observed(seen.append).get("a").data == b"body"
    assert [one.status for one in seen] == [503, 0, 429, 200]


def test_trouble_that_does_not_pass_is_told(store: HttpStore, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratus.stores.retries._FIRST_PAUSE", 0.001)
    script.say((502, {}, b""))
    with pytest.raises(StoreError, match="/a was answered 502"):
        store.get("a")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_or_not_public_is_not_found(store: HttpStore, script: Script, status: int) -> None:
    script.say((status, {}, b"body"))
    with pytest.raises(NotFound):
        store.get("a")
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (302, {"Location": "http://elsewhere.example.org/a"}, "redirects to http://elsewhere.example.org/a"),
        (200, {"Content-Encoding": "gzip"}, "Content-Encoding gzip"),
        (401, {}, "401"),
    ],
)
def test_clever_answers_are_refused(
    store: HttpStore,
    script: Script,
    status: int,
    headers: dict[str, str],
    said: str,
) -> None:
    script.say((status, headers, b"body"))
    with pytest.raises(StoreError, match=said):
        store.get("a")
    assert len(script.asked) == 1


def test_a_server_that_knows_no_ranges_will_do(store: HttpStore, script: Script) -> None:
    script.say((200, {}, b"body"))
    assert store.get(object_key(b"body"), (1, 3)).data == b"od"


def test_keys_are_percent_encoded(store: HttpStore, script: Script) -> None:
    script.say((200, {}, b"body"))
    store.get("a b/ü?#%41")
    assert script.asked == ["GET /a%20b/%C3%BC%3F%23%2541"]


def test_it_cannot_be_written(store: HttpStore) -> None:
    for write in (
        lambda: store.put("a", b"1"),
        lambda: store.delete(["a"]),
        lambda: store.copy("a", "b", Version("1")),
        lambda: store.put_many([Item("a", b"1")]),
        lambda: store.prepare_put("a", b"1", ABSENT),
        lambda: store.prepare_delete(["a"]),
        lambda: store.presign_put("a", b"", 1, timedelta(minutes=1)),
    ):
        with pytest.raises(Refused, match="read-only"):
            write()
    with pytest.raises(Unsuitable, match="listed"):
        store.list("")


@pytest.mark.parametrize("url", ["http:///a", "http://host/a?b=c", "http://user:secret@host/"])
def test_some_urls_are_no_stores(url: str) -> None:
    with pytest.raises(UsageError):
        HttpStore(url)
