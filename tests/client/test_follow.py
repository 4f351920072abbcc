"""A mount shows a new revision in a moment, however long the repository says that clients may go without looking."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stratus.client import api_news
from stratus.client.api_news import ApiNews
from stratus.client.file_news import FileNews
from stratus.client.mount import umount
from stratus.endpoints.server import Server
from stratus.endpoints.static import everything_in, static_app
from stratus.errors import BadSignature, RolledBack, UsageError
from stratus.formats.notification import Notification
from stratus.stores.contract import Store
from stratus.stores.directory import DirectoryStore
from stratus.stores.memory import MemoryStore
from tests import repositories
from tests.client.conftest import eventually, is_alive, why_not
from tests.endpoints.listening import Serving, serving
from tests.repositories import FQRN, keys, new_repository


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return new_repository(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def static(store: Store) -> Iterator[str]:
    """The URL of the repository."""
    with Server(static_app(everything_in(store))) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield f"{server.url}/cvmfs/{FQRN}"
        server.stop()
        thread.join()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts by the command line, in a process of its own."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "key.pub").write_bytes(keys().public_key)
    directory, cache = tmp_path / "mnt", tmp_path / "cache"
    directory.mkdir()
    pids = []

    def start(url: str, *options: str) -> Path:
        line = [sys.executable, "-m", "stratus", "mount", url, str(directory)]
        environment = {**os.environ, "STRATUS_CONFIG": str(tmp_path / "config.toml")}
        subprocess.run(
            [*line, "--public-key", tmp_path / "key.pub", "--cache", cache, *options],
            check=True,
            timeout=30,
            env=environment,
        )
        pids.append(int(os.getxattr(directory, "user.pid")))
        return directory

    yield start
    if pids:
        umount(directory)
        eventually(lambda: not is_alive(pids[0]))


def put(store: Store, name: str) -> None:
    repositories.put(store, {name: name.encode()})


def listens(server: Serving) -> bool:
    return server.watchers.count == 1


def test_a_revision_is_seen_when_it_is_announced(store: Store, static: str, mount: Callable[..., Path]) -> None:
    put(store, "first")
    with serving(lambda _: store) as server:
        directory = mount(static, "--notify", server.url)
        assert int(os.getxattr(directory, "user.expires")) >= 3
        eventually(lambda: listens(server))
        for number in range(5):
            name = directory / f"f{number}"
            assert not name.exists()
            put(store, name.name)
            server.watchers.announce(FQRN)
            eventually(name.exists, 2)
            assert name.read_bytes() == name.name.encode()
            assert name.name in os.listdir(directory)  # noqa: PTH208
        assert os.getxattr(directory, "user.revision") == b"7"


def test_the_endpoint_goes_and_comes_back(store: Store, static: str, mount: Callable[..., Path]) -> None:
    with serving(lambda _: store) as server:
        directory = mount(static, "--notify", server.url)
        eventually(lambda: listens(server))
    put(store, "meanwhile")
    time.sleep(0.5)
    assert not (directory / "meanwhile").exists()
    with serving(lambda _: store, port=server.port) as server:
        eventually((directory / "meanwhile").exists)
        put(store, "later")
        server.watchers.announce(FQRN)
        eventually((directory / "later").exists, 2)


def test_a_repository_on_this_machine_needs_no_endpoint(
    store: Store, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    directory = mount(str(tmp_path / "store" / FQRN))
    assert not (directory / "f").exists()
    put(store, "f")
    eventually((directory / "f").exists, 2)


def test_names_that_come_are_told_even_if_many_were_absent(
    store: Store, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    repositories.put(store, {"d": None, "d/old": b"1"})
    directory = mount(str(tmp_path / "store" / FQRN))
    names = [directory / "d" / f"n{number}" for number in range(300)]
    assert not any(name.exists() for name in names)
    repositories.put(store, {f"d/{name.name}": b"1" for name in names[:200]})
    eventually(lambda: os.getxattr(directory, "user.revision") == b"3", 2)
    eventually(names[199].exists, 1)
    assert [name.exists() for name in names] == [True] * 200 + [False] * 100


# -- without a mount ---------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """An audience that verifies nothing, but may be told to refuse."""

    revision: int = 1
    manifests: list[bytes] = field(default_factory=list)
    looks: int = 0
    refuse: int = 0
    end: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        self.looks += 1

    def hear(self, manifest: bytes) -> None:
        if self.refuse:
            self.refuse -= 1
            raise BadSignature("not signed by a key that is known")
        self.manifests.append(manifest)
        self.revision = max(self.revision, Notification.of(manifest).revision)

    def stopped(self, seconds: float) -> bool:
        return self.end.wait(seconds)


@contextmanager
def listening(news: ApiNews | FileNews, heard: Heard) -> Iterator[None]:
    thread = threading.Thread(target=news.run, args=(heard,))
    thread.start()
    try:
        yield
    finally:
        heard.end.set()
        thread.join(20)
        assert not thread.is_alive()


def test_what_cannot_be_verified_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_news, "_FIRST_PAUSE", 0.01)
    store = new_repository()
    put(store, "f")
    heard = Heard(refuse=3)
    with serving(lambda _: store) as server, listening(ApiNews(server.url, FQRN), heard):
        eventually(lambda: heard.revision == 2)
        assert heard.refuse == 0
        heard.end.set()
        server.watchers.close()


class _NoStreams(BaseHTTPRequestHandler):
    """Passes on everything but streams, which it does not know."""

    upstream = 0

    def do_GET(self) -> None:
        if "/events" in self.path:
            self.send_error(404)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        try:
            connection.request("GET", self.path)
            response = connection.getresponse()
            body = response.read()
            self.send_response(response.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        finally:
            connection.close()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


def test_where_nothing_streams_it_is_asked_again_and_again() -> None:
    store = new_repository()
    heard = Heard()
    with serving(lambda _: store) as server:
        handler = type("Handler", (_NoStreams,), {"upstream": server.port})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
            thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                with listening(ApiNews(f"http://127.0.0.1:{proxy.server_address[1]}/", FQRN), heard):
                    for number in (2, 3):
                        eventually(lambda: listens(server))
                        put(store, f"f{number}")
                        server.watchers.announce(FQRN)
                        eventually(lambda number=number: heard.revision == number)  # type: ignore[misc]
                    heard.end.set()
                    server.watchers.close()
            finally:
                proxy.shutdown()
                thread.join()


def test_an_endpoint_that_asks_for_patience_gets_it(caplog: pytest.LogCaptureFixture) -> None:
    store = new_repository()
    with serving(lambda _: store, listeners=0) as server:
        news, heard = ApiNews(server.url, FQRN), Heard()
        with listening(news, heard):
            eventually(lambda: re.search("no news from .*503", caplog.text) is not None)
            time.sleep(0.5)
    assert caplog.text.count("no news") == 1
    assert news._failures == 1


def test_nobody_there_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_news, "_FIRST_PAUSE", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    news = ApiNews(f"http://127.0.0.1:{port}", FQRN)
    with listening(news, Heard()):
        eventually(lambda: news._failures > 3)
    assert caplog.text.count("Connection refused") == 1


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://["])
def test_an_api_has_a_url(url: str) -> None:
    with pytest.raises(UsageError):
        ApiNews(url, FQRN)


def test_a_file_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratus.client.file_news._PAUSE", 0.01)
    heard = Heard()
    with listening(FileNews(tmp_path / "manifest"), heard):
        time.sleep(0.05)
        assert heard.looks == 0
        for number in (1, 2, 3):
            (tmp_path / "new").write_bytes(b"x")
            (tmp_path / "new").replace(tmp_path / "manifest")
            eventually(lambda number=number: heard.looks == number)  # type: ignore[misc]


def test_a_forged_manifest_is_not_followed() -> None:
    store = MemoryStore()
    new_repository(store)
    reader = repositories.reader(store)
    assert reader.latest().revision == 1
    old = store.get(f"{FQRN}/.cvmfspublished").data
    put(store, "f")
    new = store.get(f"{FQRN}/.cvmfspublished").data
    with pytest.raises(BadSignature):
        reader.trust(new.replace(b"\nS2\n", b"\nS3\n"))
    assert reader.trust(new).revision == 2
    with pytest.raises(RolledBack):
        reader.trust(old)
