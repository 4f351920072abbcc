"""A server of events for tests, and listeners."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from stratus.endpoints.events import event_routes
from stratus.endpoints.server import Server
from stratus.endpoints.watching import Watchers
from stratus.formats.event_stream import EventReader, StreamEvent
from stratus.stores.contract import Store


@dataclass(frozen=True)
class Serving:
    """A server at work."""

    watchers: Watchers
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, target, body or None, dict(headers or {}))
            with connection.getresponse() as response:
                return response.status, response.headers, response.read()

    @contextlib.contextmanager
    def listen(
        self, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The pieces of a stream as they come."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", target, body or None, dict(headers or {}))
            with connection.getresponse() as response:
                assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
                yield iter(lambda: response.read1(65536), b"")


def events(pieces: Iterator[bytes]) -> Iterator[StreamEvent]:
    reader = EventReader()
    for piece in pieces:
        yield from reader.feed(piece)


def revision(message: bytes) -> int:
    found: dict[str, Any] = json.loads(message)
    assert isinstance(found["revision"], int)
    return found["revision"]


@contextlib.contextmanager
def serving(
    stores: Callable[[str], Store], poll: float = 1000, listeners: int = 1000, port: int = 0
) -> Iterator[Serving]:
    """By default nothing is polled, so that what is announced is all that is seen."""
    watchers = Watchers(stores, poll, listeners)
    with Server(Starlette(routes=event_routes(watchers)), port=port) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Serving(watchers, server.address[1])
        finally:
            watchers.close()
            server.stop()
            thread.join()
