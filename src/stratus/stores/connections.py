"""Connections to one server, used again: small requests, each sent once and its answer read whole.

``http.client`` speaks HTTP. What a general library adds to it — redirects, repetition, decoding — is not wanted here,
and takes more time than everything else in a request.
"""

from __future__ import annotations

import select
import ssl
import weakref
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec


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
        self._idle: deque[HTTPConnection] = deque()
        weakref.finalize(self, _close, self._idle)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Sends a request once; ``Host`` is among ``headers``. Raises OSError, NotConnected if it was not sent."""
        connection = self._take()
        try:
            connection.request(method, target, body, headers)
            with connection.getresponse() as response:
                fields = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, fields, response.read())
        except HTTPException as error:
            connection.close()
            raise BadAnswer(
                f"what was answered is not HTTP/1.1, or cut off: {error or type(error).__name__}"
            ) from error
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None and len(self._idle) < self._kept:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _take(self) -> HTTPConnection:
        """One that the server has not closed meanwhile, the last that was used first."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if is_quiet(connection):
                return connection
            connection.close()

    def _connect(self) -> HTTPConnection:
        if self._is_secure:
            made: HTTPConnection = HTTPSConnection(
                self._name, self._port, timeout=self._connect_timeout, context=self._tls
            )
        else:
            made = HTTPConnection(self._name, self._port, timeout=self._connect_timeout)
        try:
            made.connect()
        except OSError as error:
            made.close()
            raise NotConnected(str(error)) from error
        made.sock.settimeout(self._read_timeout)
        return made

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._certificates)
        context.set_alpn_protocols(["http/1.1"])
        return context


def is_quiet(connection: HTTPConnection) -> bool:
    """Whether nothing came that nobody asked for, as the end does."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _close(idle: deque[HTTPConnection]) -> None:
    while idle:
        idle.pop().close()
