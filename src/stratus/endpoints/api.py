"""The API over HTTP: authenticates requests, makes events of them, and gives their replies back.

What a writer may do is for the functions to say; here is only found out who it is. Functions block, so they run where
``invoke`` runs them; verifying signatures blocks, too, and runs in a thread. The audit trail comes after the reply.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stratus.endpoints.authentication import SCHEMES, Authenticator, Sent
from stratus.endpoints.openapi import BASE, DOCUMENT, OPERATIONS, Operation, document
from stratus.endpoints.replays import SignAgain
from stratus.errors import BadSignature, NotPermitted, QuotaExceeded, StratusError, UsageError
from stratus.formats.messages import LONGEST_WAIT, TOKEN_HEADER
from stratus.formats.records import new_nonce
from stratus.functions.auditing import Auditor
from stratus.functions.contract import Caller, Event, Reply
from stratus.functions.dispatch import problem

Invoke = Callable[[Event], Awaitable[Reply]]
_LONGEST_BODY = 60.0  # seconds that a body may take to arrive
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks for a receipt
_WAKE_EVERY = 5.0  # seconds in which a commit may well be under way


def api_app(
    invoke: Invoke, authenticator: Authenticator, auditor: Auditor, more: Sequence[BaseRoute] = ()
) -> Starlette:
    """The whole application; ``more`` are routes of others, which come first."""
    handlers: dict[Any, Any] = {HTTPException: _not_here}
    return Starlette(routes=[*more, *routes(invoke, authenticator, auditor)], exception_handlers=handlers)


def routes(invoke: Invoke, authenticator: Authenticator, auditor: Auditor) -> list[BaseRoute]:
    """The API's routes, for an application that has others, too."""
    by_path: dict[str, list[Operation]] = {}
    for one in OPERATIONS:
        by_path.setdefault(one.path, []).append(one)
    found: list[BaseRoute] = [
        Route(
            BASE + path,
            _endpoint(operations, invoke, authenticator, auditor),
            methods=[one.method for one in operations],
        )
        for path, operations in by_path.items()
    ]
    return [Route(DOCUMENT, _document, methods=["GET"]), *found]


async def _document(_: Request) -> Response:
    return JSONResponse(document())


async def _not_here(request: Request, error: Exception) -> Response:
    """What no route answers."""
    assert isinstance(error, HTTPException)
    hint = f"{DOCUMENT} lists what there is"
    refused = StratusError(f"{request.method} {request.url.path}: {error.detail}", hint=hint)
    return _response(problem(refused, error.status_code), error.headers)


def _endpoint(
    operations: Sequence[Operation], invoke: Invoke, authenticator: Authenticator, auditor: Auditor
) -> Callable[[Request], Awaitable[Response]]:
    by_method = {one.method: one for one in operations}

    async def endpoint(request: Request) -> Response:
        operation = by_method["GET" if request.method == "HEAD" else request.method]  # type: ignore[index]
        event, reply = await _answer(request, operation, invoke, authenticator)
        response = _response(reply)
        noted = auditor.entry_of(event, reply, _host(request))
        if noted is not None:
            response.background = BackgroundTask(auditor.write, *noted)
        return response

    return endpoint


async def _answer(
    request: Request, operation: Operation, invoke: Invoke, authenticator: Authenticator
) -> tuple[Event, Reply]:
    """The reply, and the event of the request as far as that is known."""
    event = Event(operation.kind, "", request.path_params["fqrn"])
    try:
        body = await _body(request, operation.largest)
        event = _event(operation, request, body)
        sent = Sent(request.method, _url(request), dict(request.headers), body, _host(request))
        if operation.signed or sent.is_somebodys:
            event = replace(event, caller=await _caller(event, sent, authenticator))
    except _TooLarge as error:
        return event, _with(problem(error, 413), Connection="close")
    except _TooSlow as error:
        return event, _with(problem(error, 408), Connection="close")
    except _Unknown as error:
        if isinstance(error.cause, SignAgain):
            return event, _with(problem(error.cause, 503), **{"Retry-After": "1"})
        return event, _with(problem(error.cause, 401), **{"WWW-Authenticate": SCHEMES})
    except StratusError as error:
        return event, problem(error)
    if operation.kind == "receipt":
        return event, await _wait(request, event, invoke)
    return event, await invoke(event)


def _with(reply: Reply, **headers: str) -> Reply:
    return replace(reply, headers=(*reply.headers, *headers.items()))


# -- from a request to an event --------------------------------------------------------------------------------------


class _TooLarge(UsageError):
    pass


class _TooSlow(UsageError):
    pass


class _Unknown(Exception):
    """It is not known who sent the request."""

    def __init__(self, cause: StratusError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _body(request: Request, largest: int) -> bytes:
    """Raises _TooLarge as soon as that is known, _TooSlow."""
    parts: list[bytes] = []
    size = 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > largest:
        raise _too_large(largest)
    try:
        async with asyncio.timeout(_LONGEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > largest:
                    raise _too_large(largest)
                parts.append(part)
    except ClientDisconnect as error:
        raise UsageError("the request ended early", hint="send it again") from error
    except TimeoutError as error:
        raise _TooSlow(f"the request took longer than {_LONGEST_BODY:.0f} s to arrive", hint="send it again") from error
    return b"".join(parts)


def _too_large(largest: int) -> _TooLarge:
    return _TooLarge(f"the body of the request is larger than {largest} bytes", hint="stage large change sets first")


def _event(operation: Operation, request: Request, body: bytes) -> Event:
    query = request.scope["query_string"].decode("latin-1")
    try:
        asked = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    except ValueError as error:
        raise UsageError(f"the query cannot be read: {error}", hint="check the URL") from error
    names = {parameter.name for parameter in operation.query}
    parameters = {name: value for name, value in asked.items() if name in names}
    if "id" in request.path_params:
        parameters["id"] = request.path_params["id"]
    token = request.headers.get(TOKEN_HEADER)
    if operation.token and token is not None:
        parameters["lease"] = token
    event_id = parameters["id"] if operation.kind == "submit" else new_nonce()
    return Event(operation.kind, event_id, request.path_params["fqrn"], parameters, body)


async def _caller(event: Event, sent: Sent, authenticator: Authenticator) -> Caller:
    """Raises _Unknown, QuotaExceeded, StoreError, UsageError."""
    try:
        return await run_in_threadpool(authenticator.caller, event.repository, sent)
    except QuotaExceeded:
        raise
    except (NotPermitted, BadSignature) as error:
        raise _Unknown(error) from error


def _host(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _url(request: Request) -> str:
    """The URL as it was sent: what was encoded on the way must stay so."""
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode()
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return f"{scope['scheme']}://{request.headers.get('host', '')}{(path + query).decode('latin-1')}"


# -- from a reply to a response --------------------------------------------------------------------------------------


async def _wait(request: Request, event: Event, invoke: Invoke) -> Reply:
    """Looks for a receipt until it is there, the time is over, or nobody waits for it any more."""
    try:
        wait = min(max(float(event.parameters.get("wait", "0")), 0.0), LONGEST_WAIT)
    except ValueError:
        return problem(UsageError("`wait` is a number of seconds", hint="check the URL"))
    waking = replace(event, parameters={**event.parameters, "wake": "yes"})
    begun = woken = time.monotonic()
    pause = _FIRST_PAUSE
    reply = await invoke(waking)
    while reply.status == 202 and time.monotonic() < begun + wait and not await request.is_disconnected():
        await asyncio.sleep(min(pause, max(begun + wait - time.monotonic(), 0.0)))
        pause = min(pause * 2, _LONGEST_PAUSE)
        wake = time.monotonic() > woken + _WAKE_EVERY
        woken = time.monotonic() if wake else woken
        reply = await invoke(waking if wake else event)
    return reply


def _response(reply: Reply, more: Any = None) -> Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **dict(reply.headers), **(more or {})}
    if not reply.body:
        del headers["Content-Type"]
    return Response(reply.body, reply.status, headers)
