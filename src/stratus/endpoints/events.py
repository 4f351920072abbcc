"""New revisions as they come: event streams, long polls, and the stock tools' notifications.

======================================================  ==============================================================
GET  ``/api/v1/repositories/{fqrn}/events``              stream of messages, the newest first; ``id`` is the revision,
                                                         after ``Last-Event-ID`` only what is newer
GET  ``/api/v1/repositories/{fqrn}/notifications``       ``?after=REVISION&wait=SECONDS``: 200 with the message of a
                                                         newer revision, 204 if none came
GET  ``/api/v1/notifications/subscribe``                 stream for stock clients, who name the repository in the body
POST ``/api/v1/notifications/publish``                   a stock publisher's message: a hint to look, nothing more
======================================================  ==============================================================

All are public, as the manifests are. Nothing is verified here: whoever is told verifies the manifest in the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stratus.endpoints.watching import Ending, News, Watcher, Watchers
from stratus.errors import BadFormat, Busy, NoSuchRepository, StratusError
from stratus.formats import event_stream, messages, notification
from stratus.formats.event_stream import pack_comment, pack_event
from stratus.formats.messages import Problem
from stratus.formats.notification import Notification, parse_subscription

HEARTBEAT = 15.0  # seconds
WAIT_MAX = 25.0  # seconds; what is on the way often gives up after 30
_SLOW = 20.0  # seconds for a listener to take what it is sent
_STOCK_IDLE = 7200.0  # seconds after which a stock stream without news ends, as theirs does
_STOCK_END = json.dumps({"status": "timeout"}).encode()
_RETRY_BUSY, _RETRY_ENDING = 10, 1  # seconds
_RECONNECT = b"retry: 1000\n"  # milliseconds
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_routes(watchers: Watchers) -> list[Route]:
    """The routes above, for a Starlette application."""
    faces = _Faces(watchers)
    return [
        Route("/api/v1/repositories/{fqrn}/events", faces.events, methods=["GET"]),
        Route("/api/v1/repositories/{fqrn}/notifications", faces.notifications, methods=["GET"]),
        Route("/api/v1/notifications/subscribe", faces.subscribe, methods=["GET", "POST"]),
        Route("/api/v1/notifications/publish", faces.publish, methods=["POST"]),
    ]


class _Faces:
    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers

    async def events(self, request: Request) -> Response:
        after = _number(request.headers.get("Last-Event-ID"))
        return _Stream(self._watchers, request.path_params["fqrn"], -1 if after is None else after)

    async def notifications(self, request: Request) -> Response:
        after = _number(request.query_params.get("after", "-1"))
        wait = _number(request.query_params.get("wait", "0"))
        if after is None or wait is None:
            return _problem(400, BadFormat("after and wait are whole numbers: a revision, and seconds"))
        return _Poll(self._watchers, request.path_params["fqrn"], after, min(wait, WAIT_MAX))

    async def subscribe(self, request: Request) -> Response:
        try:
            fqrn = parse_subscription(await _body(request))
        except StratusError as error:
            return _problem(400, error)
        return _StockStream(self._watchers, fqrn)

    async def publish(self, request: Request) -> Response:
        try:
            message = Notification.parse(await _body(request))
        except StratusError as error:
            return _problem(400, error)
        self._watchers.hint(message.repository)
        return JSONResponse({"status": "ok"})


async def _body(request: Request) -> bytes:
    """Raises BadFormat if it is large, or does not come."""
    body = b""
    try:
        async with asyncio.timeout(_SLOW):
            async for piece in request.stream():
                body += piece
                if len(body) > notification.SIZE_MAX:
                    raise BadFormat("the body is too large")
    except (ClientDisconnect, TimeoutError) as error:
        raise BadFormat("the body did not come") from error
    return body


def _number(text: str | None) -> int | None:
    """A whole number, from -1 on; None for anything else."""
    if text == "-1":
        return -1
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


class _Listener(Response):
    """A response that waits for news, and ends when the listener goes away, is too slow, or the server ends."""

    def __init__(self, watchers: Watchers, fqrn: str) -> None:
        super().__init__()
        self._watchers = watchers
        self._fqrn = fqrn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._watchers.listening(self._fqrn) as (watcher, newest):
                answer = asyncio.create_task(self.answer(watcher, newest, scope["method"] == "HEAD", send))
                closed = asyncio.create_task(self._watchers.closed())
                if await _first_of(answer, closed, asyncio.create_task(_gone(receive))) is closed:
                    await self.end(send)
        except Busy as error:
            seconds = _RETRY_ENDING if isinstance(error, Ending) else _RETRY_BUSY
            await _problem(503, error, {"Retry-After": str(seconds)})(scope, receive, send)
        except NoSuchRepository as error:
            await _problem(404, error)(scope, receive, send)
        except StratusError as error:
            await _problem(502, error)(scope, receive, send)
        except TimeoutError:
            return  # too slow

    async def answer(self, watcher: Watcher, newest: News, head: bool, send: Send) -> None:
        raise NotImplementedError

    async def end(self, send: Send) -> None:
        """Instead of the rest of the answer, as the server ends."""
        raise NotImplementedError


class _Poll(_Listener):
    def __init__(self, watchers: Watchers, fqrn: str, after: int, wait: float) -> None:
        super().__init__(watchers, fqrn)
        self._after = after
        self._wait = wait

    async def answer(self, watcher: Watcher, newest: News, head: bool, send: Send) -> None:
        found: News | None = newest if newest.revision > self._after else None
        if found is None:
            with contextlib.suppress(TimeoutError):
                found = await asyncio.wait_for(watcher.newer(self._after), self._wait)
        if found is None:
            await self.end(send)
            return
        length = str(len(found.message))
        await _start(send, 200, {**_HEADERS, "Content-Type": notification.MEDIA_TYPE, "Content-Length": length})
        await _send(send, b"" if head else found.message, more=False)

    async def end(self, send: Send) -> None:
        await _start(send, 204, _HEADERS)
        await _send(send, b"", more=False)


class _Stream(_Listener):
    first = _RECONNECT + pack_comment("stratus")  # at once, so that listeners see that nothing on the way holds it back
    heartbeat = pack_comment()

    def __init__(self, watchers: Watchers, fqrn: str, after: int = -1) -> None:
        super().__init__(watchers, fqrn)
        self._after = after

    async def answer(self, watcher: Watcher, newest: News, head: bool, send: Send) -> None:
        await _start(send, 200, {**_HEADERS, "Content-Type": event_stream.MEDIA_TYPE})
        if head:
            await self.end(send)
            return
        await _send(send, self.first)
        after, quiet = self._after, 0.0
        news: News | None = newest if newest.revision > after else None
        while not self.is_over(quiet):
            if news is None:
                await _send(send, self.heartbeat)
            else:
                await _send(send, self.packed(news))
                after, quiet = news.revision, 0.0
            try:
                news = await asyncio.wait_for(watcher.newer(after), HEARTBEAT)
            except TimeoutError:
                news, quiet = None, quiet + HEARTBEAT
        await _send(send, _STOCK_END, more=False)

    async def end(self, send: Send) -> None:
        await _send(send, b"", more=False)

    def is_over(self, quiet: float) -> bool:  # noqa: ARG002
        """Whether to end after so many seconds without news."""
        return False

    def packed(self, news: News) -> bytes:
        return pack_event(news.message, news.revision)


class _StockStream(_Stream):
    """Nothing but lines of data, for the stock client takes every line for a message."""

    first = heartbeat = b""

    def is_over(self, quiet: float) -> bool:
        return quiet >= _STOCK_IDLE

    def packed(self, news: News) -> bytes:
        return pack_event(news.message)


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _send(send: Send, data: bytes, more: bool = True) -> None:
    """Raises TimeoutError if the listener does not take it."""
    async with asyncio.timeout(_SLOW):
        await send({"type": "http.response.body", "body": data, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(*tasks: asyncio.Task[None]) -> asyncio.Task[None]:
    """Gives the task that ends first, and ends the others. Raises its error."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    first = next(task for task in tasks if task in done)
    first.result()
    return first


def _problem(status: int, error: StratusError, headers: dict[str, str] | None = None) -> Response:
    body = messages.pack(Problem.of(error, status))
    return Response(body, status, {**_HEADERS, **(headers or {})}, messages.PROBLEM_TYPE)
