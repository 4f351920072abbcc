"""How a server ends: in processes of their own, as it is about signals."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

PROGRAM = """
import asyncio, sys
from stratus.endpoints.server import Server

working = asyncio.Event()

class Slow:
    async def start(self):
        pass
    async def stop(self):
        await asyncio.sleep(float(sys.argv[1]))
        working.set()

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        while True:
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
            await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"begun,", "more_body": True})
    await working.wait()
    await send({"type": "http.response.body", "body": b"done"})

with Server(app, behind=Slow()) as server:
    server.run(lambda: print(server.address[1], flush=True))
"""


class Process:
    """A server whose work takes so many seconds to stop."""

    def __init__(self, seconds: float) -> None:
        line = [sys.executable, "-c", PROGRAM, str(seconds)]
        self.popen = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline())

    @contextlib.contextmanager
    def ask(self, target: str) -> Iterator[http.client.HTTPResponse]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", target)
            with connection.getresponse() as response:
                yield response

    def end(self) -> tuple[int, str]:
        _, said = self.popen.communicate(timeout=20)
        return self.popen.returncode, said


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(request.param)
    yield process
    process.popen.kill()
    process.end()


@pytest.mark.parametrize("server", [0.5], indirect=True)
def test_answers_that_are_being_worked_on_are_given_before_it_ends(server: Process) -> None:
    with server.ask("/") as response:
        assert response.read(6) == b"begun,"
        server.popen.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionError), server.ask("/"):
            pass
        assert response.read() == b"done"
    assert server.end() == (0, "")


@pytest.mark.parametrize("server", [0], indirect=True)
def test_streams_without_an_end_are_cut_off(server: Process) -> None:
    with server.ask("/stream") as response:
        assert response.read(4) == b"more"
        server.popen.send_signal(signal.SIGTERM)
        assert server.end() == (0, "")


@pytest.mark.parametrize("server", [60], indirect=True)
def test_a_second_signal_ends_it_at_once(server: Process) -> None:
    server.popen.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    server.popen.send_signal(signal.SIGTERM)
    assert server.end() == (0, "")
