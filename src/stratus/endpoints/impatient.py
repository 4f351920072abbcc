"""HTTP/1.1 for clients that may be hostile: the head of a request comes soon and is small, or the connection ends.

Bodies are for those who read them to limit.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 20.0  # seconds, from the connection or the first byte of a further request on
LARGEST_HEAD = 64 << 10  # bytes


class Impatient(HttpToolsProtocol):
    """Uvicorn's protocol, which waits for ever by itself."""

    _late: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            self._size += len(data)
        super().data_received(data)
        if self._late is not None and self._size > LARGEST_HEAD:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._late is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._stop()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._size = 0
        self._late = self.loop.call_later(LONGEST_HEAD, self.transport.close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
