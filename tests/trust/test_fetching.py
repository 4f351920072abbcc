"""Documents of other services: by https or from this machine, small, soon, from where they were asked for."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import urllib3

from stratus.errors import StoreError, UsageError
from stratus.trust import fetching
from stratus.trust.fetching import fetch_json, is_safe

Serve = Callable[..., str]
SECRET = "do-not-show-this"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a body; gives its URL."""
    answers: list[tuple[int, dict[str, str], bytes, float]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body, pause = answers[-1]
            time.sleep(pause)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def answer(body: bytes, status: int = 200, pause: float = 0.0, **headers: str) -> str:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answers.append((status, named, body, pause))
            return f"http://127.0.0.1:{server.server_port}/document"

        yield answer
        server.shutdown()
        thread.join()


def test_an_object_is_fetched(serve: Serve) -> None:
    assert fetch_json(serve(b'{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (SECRET.encode(), 200, {}),
        (json.dumps([SECRET]).encode(), 200, {}),
        (SECRET.encode(), 403, {}),
        (b"", 302, {"Location": "http://127.0.0.1:1/elsewhere"}),
        (json.dumps({"a": "x" * (1 << 20)}).encode(), 200, {}),
        (gzip.compress(b'{"a": 1}'), 200, {"Content_Encoding": "gzip"}),
    ],
    ids=["text", "list", "refused", "redirection", "large", "compressed"],
)
def test_what_is_not_as_it_should_be_is_refused_and_not_shown(
    serve: Serve, body: bytes, status: int, headers: dict[str, str]
) -> None:
    with pytest.raises(StoreError) as caught:
        fetch_json(serve(body, status, **headers))
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_who_does_not_answer_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with urllib3.PoolManager(retries=False, timeout=0.2) as impatient:
        monkeypatch.setattr(fetching, "_pool", impatient)
        with pytest.raises(StoreError, match="no answer"):
            fetch_json(serve(b"{}", pause=0.5))
        with pytest.raises(StoreError, match="no answer"):
            fetch_json("http://127.0.0.1:1/")


def test_only_https_and_this_machine_are_safe() -> None:
    for url in ("https://there.example.org/x", "http://127.0.0.1:80/", "http://localhost/x", "http://[::1]:8000/"):
        assert is_safe(url)
    for url in (
        "http://there.example.org/",
        "http://127.0.0.1.example.org/",
        "http://0.0.0.0/",
        "http://169.254.169.254/",
        "https://user@there/",
        "ftp://there/",
        "https://",
        "https://[/",
        "",
        "/etc/passwd",
    ):
        assert not is_safe(url)
        with pytest.raises(UsageError):
            fetch_json(url)
