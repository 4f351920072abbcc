"""An HTTP proxy on loopback before an S3 server, that lets happen to requests what happens on bad days."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Weather(Enum):
    FAIR = auto()
    BUSY = auto()  # 503, and nothing was done
    LOST = auto()  # it was done, and the connection is closed without an answer
    STALLED = auto()  # it was done, and no answer comes
    CUT = auto()  # the body of the answer ends half way
    FLIPPED = auto()  # one bit of the body of the answer is another one


@dataclass(frozen=True, slots=True)
class Passing:
    """One request: the how-manyth (from 0), its method and the path with the bucket."""

    index: int
    method: str
    path: str
    is_conditional: bool


Forecast = Callable[[Passing], Weather]


class Proxy:
    """Signatures cover the Host header, so it is sent on as it came."""

    def __init__(self, target: str) -> None:
        self.forecast: Forecast = lambda _: Weather.FAIR
        self.passed: list[Passing] = []
        self.stalled = threading.Event()  # set once a request was stalled
        self._target = urlsplit(target).netloc
        self._count = itertools.count()
        self._closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    self.raw_requestline = self.rfile.readline()
                    if not self.raw_requestline or not self.parse_request():
                        self.close_connection = True
                        return
                    proxy.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def restart(self, forecast: Forecast) -> None:
        """Counts from 0 again, under another forecast."""
        self._count = itertools.count()
        self.passed.clear()
        self.stalled.clear()
        self.forecast = forecast

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        is_conditional = "If-Match" in request.headers or "If-None-Match" in request.headers
        passing = Passing(next(self._count), request.command, request.path, is_conditional)
        self.passed.append(passing)
        weather = self.forecast(passing)
        if weather is Weather.BUSY:
            _send(request, 503, "Slow Down", {"Content-Length": "0"}, b"")
            return
        connection = http.client.HTTPConnection(self._target, timeout=30)
        try:
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            headers = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
        finally:
            connection.close()
        if request.command != "HEAD":
            headers["Content-Length"] = str(len(data))
        match weather:
            case Weather.STALLED:
                self.stalled.set()
                self._closing.wait()
            case Weather.CUT:
                data = data[: len(data) // 2]
            case Weather.FLIPPED if data:
                middle = len(data) // 2
                data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if weather in (Weather.STALLED, Weather.LOST):
            request.close_connection = True
            return
        _send(request, answer.status, answer.reason, headers, data)
        request.close_connection = weather is Weather.CUT or request.close_connection


def _send(request: BaseHTTPRequestHandler, status: int, reason: str, headers: dict[str, str], body: bytes) -> None:
    request.send_response_only(status, reason)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)
    request.wfile.flush()


@contextlib.contextmanager
def proxy_before(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()
