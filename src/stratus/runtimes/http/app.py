"""One application: the API, repositories, ``POST /`` for events, ``/healthz`` and ``/readyz``.

An event is answered once it was handled, so that whoever delivers it tries again where that failed: 204, or the status
of the problem. Nobody is believed by default: see ``Settings.trust``.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Sequence
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from stratus.endpoints.static import just_these
from stratus.errors import NotPermitted, StratusError, UsageError
from stratus.formats.records import new_nonce
from stratus.functions.contract import Event, Reply
from stratus.functions.dispatch import problem
from stratus.repository.layout import Layout
from stratus.runtimes.http import cloud_events
from stratus.runtimes.http.sink import Sink
from stratus.runtimes.local.budgets import default_budgets
from stratus.runtimes.local.runtime import LocalRuntime
from stratus.runtimes.local.service import Service
from stratus.runtimes.local.worker import Place
from stratus.runtimes.public_url import known_as
from stratus.runtimes.settings import Settings
from stratus.stores.opening import open_store

_LARGEST = 1 << 20  # bytes of a request with events
_LONGEST = 30.0  # seconds that it may take to arrive
_MOST = 1000  # events in one
_READY_FOR = 10.0  # seconds that a look at the store holds good


class Instance:
    """An application, ``app``, and what works behind it: see ``endpoints.server``."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError for a store or secrets that cannot be."""
        self._settings = settings
        self._store = open_store(settings.store)
        self._ready_until = 0.0
        self._state = "starting"
        self._sink = Sink(settings.sink, settings.token, settings.url) if settings.sink else None
        self._service = Service(
            {fqrn: Place(settings.store, settings.secrets) for fqrn in settings.repositories},
            just_these(dict.fromkeys(settings.repositories, self._store)),
            default_budgets(settings.workers),
            settings.tend_every,
            self._routes,
            self._sink.forward if self._sink is not None else None,
            instance=new_nonce(),
        )
        self.app: ASGIApp = known_as(self._service.app, settings.url)

    async def start(self) -> None:
        """Starts the functions."""
        await self._service.start()
        self._state = "running"

    async def stop(self) -> None:
        """What runs may end; what comes is answered 503."""
        self._state = "stopping"
        await self._service.stop()
        if self._sink is not None:
            self._sink.close()

    def _routes(self, runtime: LocalRuntime) -> Sequence[BaseRoute]:
        async def events(request: Request) -> Response:
            try:
                return _answer(await self._events(request, runtime))
            except StratusError as error:
                return _answer(problem(error))

        return [
            Route("/", events, methods=["POST"]),
            Route("/healthz", _healthy, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
        ]

    # -- events ------------------------------------------------------------------------------------------------------

    async def _events(self, request: Request, runtime: LocalRuntime) -> Reply:
        """The worst of the replies. Raises NotPermitted, UsageError."""
        body = await _body(request)
        self._believe(request.headers.get("authorization", ""), body)
        found = cloud_events.read(dict(request.headers), body, self._settings.repositories)
        if len(found) > _MOST:
            raise UsageError(f"{len(found)} events at once are more than {_MOST}", hint="send fewer")
        replies = await asyncio.gather(*(runtime.invoke(event) for event in _distinct(found)))
        worst = max(replies, key=lambda reply: reply.status, default=Reply(HTTPStatus.NO_CONTENT))
        return worst if worst.status >= HTTPStatus.BAD_REQUEST else Reply(HTTPStatus.NO_CONTENT)

    def _believe(self, authorization: str, body: bytes) -> None:
        """Raises NotPermitted for events of somebody who cannot be believed."""
        match self._settings.trust:
            case "network":
                return
            case "nobody":
                hint = "set STRATUS_EVENTS_TOKEN, or STRATUS_EVENTS=network where only the platform reaches this port"
                raise NotPermitted("no events are taken here", hint=hint)
            case "token":
                token = self._settings.token
                given = authorization.partition(" ")[2] if authorization[:7].lower() == "bearer " else ""
                if not (_same(given, token) or _in_all_records(body, token)):
                    raise NotPermitted("the events come without the token", hint="send it as a bearer token")

    # -- probes ------------------------------------------------------------------------------------------------------

    async def _ready(self, _: Request) -> Response:
        """200 if requests can be answered: functions run, and the store answers."""
        if self._state != "running":
            return Response(f"{self._state}\n", HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"}, "text/plain")
        if time.monotonic() > self._ready_until:
            try:
                await asyncio.to_thread(self._look)
            except StratusError as error:
                return Response(f"{error.code}\n", HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"}, "text/plain")
            self._ready_until = time.monotonic() + _READY_FOR
        return Response("ready\n", media_type="text/plain")

    def _look(self) -> None:
        for fqrn in self._settings.repositories[:1]:
            self._store.get(Layout(fqrn).format)


async def _healthy(_: Request) -> Response:
    return Response("alive\n", media_type="text/plain")


async def _body(request: Request) -> bytes:
    """Raises UsageError."""
    body = bytearray()
    try:
        async with asyncio.timeout(_LONGEST):
            async for part in request.stream():
                body += part
                if len(body) > _LARGEST:
                    raise UsageError(f"events of more than {_LARGEST} bytes", hint="send fewer")
    except TimeoutError as error:
        raise UsageError(f"the request took longer than {_LONGEST:.0f} s to arrive", hint="send it again") from error
    except ClientDisconnect as error:
        raise UsageError("the request ended early", hint="send it again") from error
    return bytes(body)


def _distinct(events: Sequence[Event]) -> list[Event]:
    """What says the same is done once."""
    return list({(event.kind, event.repository, *sorted(event.parameters.items())): event for event in events}.values())


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


def _in_all_records(body: bytes, token: str) -> bool:
    """Ceph RadosGW can send no header of ours, but what its topic holds as ``OpaqueData``, in each record."""
    try:
        records = json.loads(body)["Records"]
        return bool(records) and all(_same(str(one["opaqueData"]), token) for one in records)
    except (ValueError, KeyError, TypeError):
        return False


def _answer(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers))
