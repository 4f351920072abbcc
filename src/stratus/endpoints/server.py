"""Listening and serving, HTTP/1.1, until a signal or ``stop``.

Knows ASGI applications; not what they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from stratus._version import __version__
from stratus.errors import StratusError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

_IDLE = 60  # seconds that a connection may be silent
_LAST = 1  # seconds that answers have to leave, once nothing works on any
_BACKLOG = 128

_log = logging.getLogger("uvicorn.error")


class Behind(Protocol):
    """What works behind an application, in the same event loop."""

    async def start(self) -> None:
        """Before the first request."""

    async def stop(self) -> None:
        """Once no new connection is taken; returns when nothing works any more. May be cancelled, to end at once."""


class Nothing:
    """Behind an application that answers by itself."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class Server:
    """Serves one application::

        with Server(app, port=8000) as server:
            server.run()

    Raises StratusError if it cannot listen there. SIGTERM and SIGINT end it, in order; a second one, at once.
    """

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0, behind: Behind | None = None) -> None:
        self._app = app
        self._behind: Behind = behind or Nothing()
        self._socket = _listen(host, port)
        self._server = self._uvicorn()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Returns after SIGTERM or ``stop``. Raises KeyboardInterrupt after SIGINT, if this is the main thread.

        ``started`` is called once requests are answered, and signals heard.
        """
        ended_by = asyncio.run(self._run(started))
        if ended_by == signal.SIGINT:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """From any thread."""
        self._server.should_exit = True

    async def _run(self, started: Callable[[], None]) -> int:
        main = asyncio.current_task()
        assert main is not None
        signals: list[int] = []

        def end(number: int) -> None:
            signals.append(number)
            self.stop()
            if len(signals) > 1:
                main.cancel()

        with _handled(end):
            try:
                await self._behind.start()
                started()
                await self._server.serve([self._socket])
            except asyncio.CancelledError:
                if not signals:
                    raise
            finally:
                await self._stop_behind()
        return signals[0] if signals else 0

    async def _stop_behind(self) -> None:
        """Once, even if that was cut short."""
        behind, self._behind = self._behind, Nothing()
        await behind.stop()

    def _uvicorn(self) -> uvicorn.Server:
        import uvicorn

        from stratus.endpoints.impatient import Impatient

        stop_behind = self._stop_behind
        _log.setLevel(logging.WARNING)

        class Uvicorn(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                for server in self.servers:
                    server.close()
                await stop_behind()
                _log.setLevel(logging.CRITICAL)  # who listens for ever is cut off, which is nothing to talk about
                await super().shutdown(sockets)

        return Uvicorn(
            uvicorn.Config(
                self._app,
                http=Impatient,
                lifespan="off",
                ws="none",
                log_config=None,
                server_header=False,
                headers=[("Server", f"stratus/{__version__}")],
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=_LAST,
            )
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise StratusError(f"cannot listen at {host}:{port}: {error}", hint="choose another --port") from error
    # Connections inherit it; asyncio sets it only on those that it opened itself. Without, each answer takes 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextlib.contextmanager
def _handled(end: Callable[[int], None]) -> Iterator[None]:
    """Signals come to ``end``, in the event loop; only the main thread can have them."""
    loop = asyncio.get_running_loop()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
    except (ValueError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
