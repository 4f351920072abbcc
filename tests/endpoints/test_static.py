from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import format_datetime

import pytest

from stratus.endpoints.server import Server
from stratus.endpoints.static import Route, everything_in, just_these, static_app
from stratus.errors import StoreError, StratusError
from stratus.stores.contract import OBJECT_HEADERS, POINTER_HEADERS, Blob
from stratus.stores.memory import MemoryStore

FQRN = "sw.example.org"
MANIFEST = f"/cvmfs/{FQRN}/.cvmfspublished"
OBJECT = f"/cvmfs/{FQRN}/data/ab/cdefC"
DATA = bytes(range(256)) * 4


class Client:
    """One connection, kept alive."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection(*server.address, timeout=10)

    def ask(
        self, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self.connection.request(method, target, headers=dict(headers or {}))
        with self.connection.getresponse() as response:
            return response.status, response.headers, response.read()


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(f"{FQRN}/.cvmfspublished", b"manifest")
    store.put(f"{FQRN}/data/ab/cdefC", DATA)
    store.put("info/v1/repositories.json", b"{}")
    store.put(f".stratus/{FQRN}/settings.json", b"private")
    return store


def serving(route: Route) -> Iterator[Client]:
    with Server(static_app(route)) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        client = Client(server)
        try:
            yield client
        finally:
            client.connection.close()
            server.stop()
            thread.join()


@pytest.fixture(scope="module")
def client(store: MemoryStore) -> Iterator[Client]:
    yield from serving(everything_in(store))


def test_pointers_are_sent_with_a_short_life_and_objects_with_a_long_one(client: Client) -> None:
    status, headers, body = client.ask(MANIFEST)
    assert (status, body) == (200, b"manifest")
    assert headers["Content-Type"] == POINTER_HEADERS.content_type
    assert headers["Cache-Control"] == POINTER_HEADERS.cache_control
    status, headers, body = client.ask(OBJECT)
    assert (status, body) == (200, DATA)
    assert headers["Content-Type"] == OBJECT_HEADERS.content_type
    assert headers["Cache-Control"] == OBJECT_HEADERS.cache_control


def test_the_length_is_told_and_the_connection_kept(client: Client) -> None:
    client.ask(OBJECT)
    kept = client.connection.sock
    status, headers, _ = client.ask(OBJECT)
    assert status == 200
    assert client.connection.sock is kept
    assert headers["Content-Length"] == "1024"
    assert "Transfer-Encoding" not in headers
    assert headers["Accept-Ranges"] == "bytes"


def test_head_is_get_without_the_body(client: Client) -> None:
    _, of_get, _ = client.ask(OBJECT)
    status, headers, body = client.ask(OBJECT, "HEAD")
    assert (status, body) == (200, b"")
    assert {**dict(headers), "date": ""} == {**dict(of_get), "date": ""}
    assert client.ask(f"/cvmfs/{FQRN}/data/no/ne", "HEAD")[::2] == (404, b"")


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("0-9", 0, 10), ("1000-", 1000, 1024), ("-24", 1000, 1024), ("1000-9999", 1000, 1024), ("-9999", 0, 1024)],
)
def test_a_range_is_sent_alone(client: Client, wanted: str, start: int, end: int) -> None:
    status, headers, body = client.ask(OBJECT, headers={"Range": f"bytes={wanted}"})
    assert (status, body) == (206, DATA[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=1-2,5-6", "bytes=-", "bytes=9-1", "lines=1-2", "bytes=a-b"])
def test_a_range_that_is_not_understood_is_ignored(client: Client, wanted: str) -> None:
    assert client.ask(OBJECT, headers={"Range": wanted})[::2] == (200, DATA)


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_sent(client: Client, wanted: str) -> None:
    status, headers, _ = client.ask(OBJECT, headers={"Range": wanted})
    assert (status, headers["Content-Range"]) == (416, "bytes */1024")


def test_a_range_of_what_has_changed_is_the_whole(client: Client) -> None:
    assert client.ask(OBJECT, headers={"Range": "bytes=0-9", "If-Range": '"other"'})[0] == 200


def test_what_a_cache_has_already_is_not_sent_again(client: Client) -> None:
    _, headers, _ = client.ask(MANIFEST)
    status, again, body = client.ask(MANIFEST, headers={"If-None-Match": f'"other", W/{headers["ETag"]}'})
    assert (status, body) == (304, b"")
    assert again["ETag"] == headers["ETag"]
    assert client.ask(MANIFEST, headers={"If-None-Match": '"other"'})[0] == 200


def test_only_of_immutable_objects_the_time_is_enough(client: Client, store: MemoryStore) -> None:
    modified = store.get(f"{FQRN}/data/ab/cdefC").modified
    since = {"If-Modified-Since": format_datetime(modified + timedelta(seconds=1), usegmt=True)}
    assert client.ask(OBJECT, headers=since)[0] == 304
    assert client.ask(MANIFEST, headers=since)[0] == 200
    assert client.ask(OBJECT, headers={"If-Modified-Since": "yesterday"})[0] == 200


def test_names_are_percent_decoded(client: Client) -> None:
    assert client.ask(f"/cvmfs/{FQRN}/%2Ecvmfspublished?x=1")[2] == b"manifest"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/cvmfs",
        "/cvmfs/",
        f"/cvmfs/{FQRN}",
        f"/cvmfs/{FQRN}/",
        f"/cvmfs/{FQRN}/missing",
        f"/{FQRN}/.cvmfspublished",
        f"/cvmfs//{FQRN}/.cvmfspublished",
        f"/cvmfs/.stratus/{FQRN}/settings.json",
        f"/cvmfs/%2estratus/{FQRN}/settings.json",
        f"/cvmfs/{FQRN}/../.stratus/{FQRN}/settings.json",
        f"/cvmfs/{FQRN}%2F..%2F.stratus/{FQRN}/settings.json",
        f"/cvmfs/./.stratus/{FQRN}/settings.json",
        "/cvmfs/x/%00",
        "/cvmfs/x/%ff",
        f"/cvmfs/{'x' * 2000}",
    ],
)
def test_what_is_no_public_key_does_not_exist(client: Client, target: str) -> None:
    status, headers, body = client.ask(target)
    assert status == 404
    assert body == b"404 Not Found\n"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(client: Client, method: str) -> None:
    status, headers, _ = client.ask(MANIFEST, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_the_list_of_a_store_is_served(client: Client) -> None:
    assert client.ask("/cvmfs/info/v1/repositories.json")[2] == b"{}"


def test_repositories_of_several_stores_are_served_and_listed_together(store: MemoryStore) -> None:
    other = MemoryStore()
    other.put("other.example.org/.cvmfspublished", b"other")
    for client in serving(just_these({FQRN: store, "other.example.org": other})):
        assert client.ask(MANIFEST)[2] == b"manifest"
        assert client.ask("/cvmfs/other.example.org/.cvmfspublished")[2] == b"other"
        assert client.ask("/cvmfs/third.example.org/.cvmfspublished")[0] == 404
        listed = json.loads(client.ask("/cvmfs/info/v1/repositories.json")[2])
        assert [item["name"] for item in listed["repositories"]] == [FQRN, "other.example.org"]


def test_a_store_that_fails_is_a_bad_gateway(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
            raise StoreError("no route to the store")

    for client in serving(everything_in(Failing())):
        assert client.ask(MANIFEST)[0] == 502
    assert "no route to the store" in caplog.text


def test_a_port_that_is_taken_is_said(store: MemoryStore) -> None:
    app = static_app(everything_in(store))
    with Server(app) as server, pytest.raises(StratusError, match="cannot listen"):
        Server(app, port=server.address[1])
