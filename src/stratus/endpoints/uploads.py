"""Uploads through the API, for stores that let nobody in themselves: granted, streamed, and compared with their names.

A body goes to a temporary file, a small one stays in memory; what is not the object that was granted is never
put anywhere. Who sends too slowly is given up, and only so many are received at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stratus.endpoints.openapi import BASE, UPLOAD
from stratus.errors import BadHash, Exists, StratusError, UsageError
from stratus.formats.messages import GRANT_HEADER, TOKEN_HEADER
from stratus.formats.records import new_nonce
from stratus.functions.auditing import Auditor
from stratus.functions.contract import Event, Reply
from stratus.functions.dispatch import problem
from stratus.functions.grants import Upload, permit_upload
from stratus.stores.contract import ABSENT, ALWAYS, Store

if TYPE_CHECKING:
    from typing_extensions import Buffer

_AT_ONCE = 64  # bodies; others wait
_IN_MEMORY = 1 << 20  # bytes of a body that is not written to a file first
_LONGEST_SILENCE = 20.0  # seconds between two parts of a body
_START, _SLOWEST = 30.0, 64 << 10  # seconds, and bytes a second after these
_AGAIN = "send it again"


def upload_routes(stores: Callable[[str], Store], auditor: Auditor) -> list[BaseRoute]:
    """For an application that has the API's routes, too. ``stores`` raises NoSuchRepository."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def endpoint(request: Request) -> Response:
        event = Event(UPLOAD.kind, "", request.path_params["fqrn"], {"id": request.path_params["id"]})
        last = False
        try:
            event = _event(request)
            reply = await _receive(request, event, stores, turns)
        except BadHash as error:
            reply = problem(error, 400)
        except Exists as error:
            reply = problem(error, 412)
        except StratusError as error:
            reply = problem(error, _STATUS.get(type(error)))
            last = True  # there may be more of a body to come
        headers = {"Cache-Control": "no-store", **dict(reply.headers), **({"Connection": "close"} if last else {})}
        response = Response(reply.body, reply.status, headers)
        noted = auditor.entry_of(event, reply, request.client.host if request.client is not None else "")
        if noted is not None:
            response.background = BackgroundTask(auditor.write, *noted)
        return response

    return [Route(BASE + UPLOAD.path, endpoint, methods=[UPLOAD.method])]


class _Slow(UsageError):
    pass


class _WrongSize(UsageError):
    pass


_STATUS: Mapping[type[StratusError], int] = {_Slow: 408, _WrongSize: 413}


async def _receive(request: Request, event: Event, stores: Callable[[str], Store], turns: asyncio.Semaphore) -> Reply:
    store = stores(event.repository)
    upload = await run_in_threadpool(permit_upload, event, store)
    announced = request.headers.get("content-length")
    if announced is not None and announced != str(upload.size):
        raise _wrong_size(upload)
    async with turns:
        parts = _all_of(upload, _within_time(request.stream(), upload.size))
        if upload.size <= _IN_MEMORY:
            await run_in_threadpool(_put, b"".join([part async for part in parts]), upload, store)
        else:
            with tempfile.TemporaryFile() as file:
                await _write(file, parts)
                await run_in_threadpool(_put_file, file, upload, store)
    return Reply(201)


def _event(request: Request) -> Event:
    query = request.scope["query_string"].decode("latin-1")
    try:
        asked = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    except ValueError as error:
        raise UsageError(f"the query cannot be read: {error}", hint="check the URL") from error
    given = {parameter.name: asked[parameter.name] for parameter in UPLOAD.query if parameter.name in asked}
    named = {"id": request.path_params["id"], "object": request.path_params["object"]}
    token = {"lease": request.headers.get(TOKEN_HEADER, ""), "grant": request.headers.get(GRANT_HEADER, "")}
    return Event(UPLOAD.kind, new_nonce(), request.path_params["fqrn"], {**given, **named, **token})


async def _within_time(stream: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The parts of a body. Raises _Slow if they come too slowly, UsageError if they end early."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _START + size / _SLOWEST
    while True:
        try:
            async with asyncio.timeout(min(_LONGEST_SILENCE, end - loop.time())):
                part = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise _Slow("the body comes too slowly", hint=_AGAIN) from error
        except ClientDisconnect as error:
            raise UsageError("the body ended early", hint=_AGAIN) from error
        yield part


async def _all_of(upload: Upload, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same parts. Raises _WrongSize, as soon as that is known."""
    size = 0
    async for part in parts:
        size += len(part)
        if size > upload.size:
            break
        yield part
    if size != upload.size:
        raise _wrong_size(upload)


def _wrong_size(upload: Upload) -> _WrongSize:
    return _WrongSize(f"the body has not the {upload.size} bytes that were granted", hint="ask for another grant")


async def _write(file: IO[bytes], parts: AsyncIterator[bytes]) -> None:
    waiting: list[bytes] = []
    held = 0
    async for part in parts:
        waiting.append(part)
        held += len(part)
        if held >= _IN_MEMORY:
            await run_in_threadpool(file.writelines, waiting)
            waiting, held = [], 0
    await run_in_threadpool(file.writelines, waiting)


def _put_file(file: IO[bytes], upload: Upload, store: Store) -> None:
    file.flush()
    data = mmap.mmap(file.fileno(), upload.size, access=mmap.ACCESS_READ)
    try:
        _put(data, upload, store)
    finally:
        with contextlib.suppress(BufferError):  # an error that is on its way may still hold it
            data.close()


def _put(data: Buffer, upload: Upload, store: Store) -> None:
    """Puts what it should be, and nothing else. Raises BadHash, Exists, StoreError."""
    if upload.object is None:
        store.put(upload.key, data, ALWAYS)
        return
    if upload.object.digest.algorithm.digest(data) != upload.object.digest:
        raise BadHash(f"these are not the bytes of the object {upload.object}", hint="send those of its name")
    store.put(upload.key, data, ABSENT)
