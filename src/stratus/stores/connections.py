"""Connections to one server, used again: small requests, each sent once and its answer read whole.

``httptools`` parses the answers. What a general library adds to it — redirects, repetition, decoding — is not wanted
here, and takes more time than everything else in a request.
"""

from __future__ import annotations

import select
import socket
import ssl
import weakref
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import urlsplit

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_AT_ONCE = 64 << 10  # bytes


class BadAnswer(OSError):
    """What came is no answer, or it ended too early."""


class NotConnected(OSError):
    """No connection could be made: nothing was sent."""


class Answer(msgspec.Struct, frozen=True):
    """``headers`` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """To the server of a URL; thread-safe. Nothing is contacted before the first request."""

    def __init__(
        self, url: str, *, connect_timeout: float, read_timeout: float, kept: int, certificates: str | None = None
    ) -> None:
        """Times in seconds; at most ``kept`` connections are kept idle; ``certificates`` is a file of authorities."""
        parts = urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._name = parts.hostname or ""
        default = 443 if self._is_secure else 80
        self._port = parts.port or default
        name = f"[{self._name}]" if ":" in self._name else self._name
        self.host = name if self._port == default else f"{name}:{self._port}"
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._certificates = certificates
        self._kept = kept
        self._idle: deque[socket.socket] = deque()
        weakref.finalize(self, _close, self._idle)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Sends a request once; ``Host`` is among ``headers``. Raises OSError, NotConnected if it was not sent."""
        request = _request(method, target, headers, body)
        connection = self._take()
        try:
            if len(body) < _AT_ONCE:
                connection.sendall(request + body)
            else:
                connection.sendall(request)
                connection.sendall(body)
            incoming = _Incoming(method)
            while not incoming.is_whole:
                incoming.feed(connection.recv(_AT_ONCE))
        except BaseException:
            connection.close()
            raise
        if incoming.is_last or len(self._idle) >= self._kept:
            connection.close()
        else:
            self._idle.append(connection)
        return Answer(incoming.status, incoming.headers, b"".join(incoming.body))

    def _take(self) -> socket.socket:
        """One that the server has not closed meanwhile, the last that was used first."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if is_quiet(connection):
                return connection
            connection.close()

    def _connect(self) -> socket.socket:
        try:
            made = socket.create_connection((self._name, self._port), self._connect_timeout)
            try:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._is_secure:
                    made = self._tls.wrap_socket(made, server_hostname=self._name)
            except BaseException:
                made.close()
                raise
        except OSError as error:
            raise NotConnected(str(error)) from error
        made.settimeout(self._read_timeout)
        return made

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._certificates)
        context.set_alpn_protocols(["http/1.1"])
        return context


class _Incoming:
    """What comes on a connection until an answer is whole.

    Attributes:
        is_last: nothing can come after it on this connection.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.is_whole = False
        self.is_last = False
        self._has_body = method != "HEAD"
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """The next bytes, none where the connection ended. Raises BadAnswer."""
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.is_last = True
            if not self.is_whole:
                raise BadAnswer(f"what was answered is not HTTP/1.1: {error}") from error

    def _end(self) -> None:
        self.is_whole = self.is_last = True
        sized = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not self.status or sized:
            raise BadAnswer("the answer was cut off")

    # -- called by the parser ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_whole:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.is_whole or status < 200:
            return
        self.status = status
        # Of HTTP/1.0, no connection is used again.
        is_closing = "close" in self.headers.get("connection", "").lower()
        self.is_last = is_closing or self._parser.get_http_version() != "1.1"
        self.is_whole = not self._has_body

    def on_body(self, data: bytes) -> None:
        if self.is_whole:
            self.is_last = True  # nobody asked for that
        else:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.is_whole = True
        else:
            self.headers.clear()  # of an answer that says that another one follows

    def on_message_begin(self) -> None:
        self.is_last = self.is_last or self.is_whole


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The head of a request. Raises ValueError if it would be two."""
    lines = [f"{method} {target} HTTP/1.1", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") + 1 != len(lines) or head.count("\r") + 1 != len(lines) or target.count(" "):
        raise ValueError(f"a request for {target!r} has more lines than it should have")
    return f"{head}\r\n\r\n".encode("latin-1")


def is_quiet(connection: socket.socket) -> bool:
    """Whether nothing came that nobody asked for, as the end does."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


def _close(idle: deque[socket.socket]) -> None:
    while idle:
        idle.pop().close()
