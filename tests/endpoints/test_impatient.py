"""Who sends the head of a request byte by byte, or without an end, is not waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stratus.endpoints import impatient
from stratus.endpoints.server import Server


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await Response(body or b"empty")(scope, receive, send)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(impatient, "LONGEST_HEAD", 0.3)
    ready = threading.Event()
    with Server(answer) as server:
        thread = threading.Thread(target=server.run, args=(ready.set,))
        thread.start()
        ready.wait(10)
        yield server.address
        server.stop()
        thread.join(10)


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends it."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1000):
            pass
    return True


def received(connection: socket.socket, last: bytes) -> bytes:
    """What comes until then."""
    found = b""
    while not found.endswith(last):
        part = connection.recv(1000)
        assert part, found
        found += part
    return found


def test_a_head_that_comes_byte_by_byte_is_given_up(address: tuple[str, int]) -> None:
    for beginning in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "):
        with socket.create_connection(address, timeout=5) as slow:
            begun = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in beginning + b"a" * 50 if beginning else b"":
                    slow.sendall(bytes([byte]))
                    time.sleep(0.01)
            with socket.create_connection(address, timeout=5) as good:
                good.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert received(good, b"empty").startswith(b"HTTP/1.1 200")
            assert ended(slow)
            assert time.monotonic() - begun < 4


def test_a_head_without_an_end_is_given_up(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatient, "LONGEST_HEAD", 30.0)
    with socket.create_connection(address, timeout=5) as connection:
        sent = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\n")
            while sent < 64 << 20:
                connection.sendall(b"X-Header: " + b"a" * 1000 + b"\r\n")
                sent += 1012
        assert sent < 32 << 20  # what fits into buffers on the way
        assert ended(connection)


def test_a_further_request_is_waited_for_but_not_for_the_rest_of_it(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=5) as connection:
        for _ in range(2):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
            time.sleep(0.4)  # a body is not for this to limit
            connection.sendall(b"dy")
            assert received(connection, b"body").startswith(b"HTTP/1.1 200")
            time.sleep(0.4)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert ended(connection)
