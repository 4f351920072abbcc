"""A TCP proxy on loopback that loses answers when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from enum import Enum, auto


class Mood(Enum):
    FORWARD = auto()
    REFUSE = auto()  # closes the connection at once: nothing arrives
    DROP_ANSWER = auto()  # the request arrives and is answered, then the connection is closed
    STALL = auto()  # the request arrives, its answer never comes


class Proxy:
    """Forwards all but what ``lose`` announced; an answer is taken for one piece."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = {self._listener}
        self._lock = threading.Lock()
        self.mood, self.times = Mood.FORWARD, 0
        self.arrived = threading.Semaphore(0)  # answers that were seen and lost
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [self._spawn(self._accept)]

    def lose(self, mood: Mood, times: int = 1) -> None:
        """Loses the next answers."""
        with self._lock:
            self.mood, self.times = mood, times

    def close(self) -> None:
        with self._lock:
            sockets, self._open = self._open, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _take(self, *moods: Mood) -> Mood:
        with self._lock:
            if self.times and self.mood in moods:
                self.times -= 1
                return self.mood
            return Mood.FORWARD

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._take(Mood.REFUSE) is Mood.REFUSE:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                with self._lock:
                    self._open |= {client, server}
                self._threads += [
                    self._spawn(self._pump, client, server, False),
                    self._spawn(self._pump, server, client, True),
                ]

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                mood = self._take(Mood.DROP_ANSWER, Mood.STALL) if answers else Mood.FORWARD
                if mood is not Mood.FORWARD:
                    self.arrived.release()
                if mood is Mood.DROP_ANSWER:
                    break
                if mood is Mood.FORWARD:
                    target.sendall(piece)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    """A proxy to an ``http://host:port``."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    proxy = Proxy(host, int(port))
    try:
        yield proxy
    finally:
        proxy.close()
