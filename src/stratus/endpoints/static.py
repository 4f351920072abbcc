"""Repositories over plain HTTP/1.1, from any store, as stock clients read them: ``/cvmfs/<fqrn>/…``.

GET and HEAD with ranges, validators and the headers that stores keep with objects. What is below ``.stratus/`` does
not exist here. Bytes are passed on as they are stored; clients verify them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from stratus.errors import NotFound, StoreError, UsageError
from stratus.repository.layout import INFO
from stratus.stores.contract import Blob, Store, default_headers
from stratus.stores.keys import check_key
from stratus.stores.memory import MemoryStore

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ROOT = "/cvmfs"
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_PRIVATE = ".stratus"

Route = Callable[[str], Store | None]
"""The store of a repository, or of ``info``; None for what is not served."""

log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """Status, headers, and the body of a GET; None where there can be none."""

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes | None


def everything_in(store: Store) -> Route:
    """All public parts of a store."""
    return lambda _: store


def just_these(stores: Mapping[str, Store]) -> Route:
    """Some repositories, each from its store, and a list of them."""
    listed = [{"name": fqrn, "url": f"{ROOT}/{fqrn}"} for fqrn in stores]
    info = MemoryStore()
    info.put(INFO, json.dumps({"schema": 1, "replicas": [], "repositories": listed}).encode())
    return {**stores, INFO.partition("/")[0]: info}.get


def static_app(route: Route) -> ASGIApp:
    """Serves everything below ``/cvmfs``, wherever it is mounted."""
    from starlette.concurrency import run_in_threadpool

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        target = scope["raw_path"].decode("latin-1")
        found = await run_in_threadpool(answer, route, scope["method"], target, headers)
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in found.headers.items()]
        if found.body is not None:
            fields.append((b"content-length", str(len(found.body)).encode()))
        await send({"type": "http.response.start", "status": found.status.value, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found.body or b""})

    return app


def answer(route: Route, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    """What a request comes to; ``headers`` by their names in lower case."""
    if method not in ("GET", "HEAD"):
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
    key = _key(target)
    store = None if key is None else route(key.partition("/")[0])
    if key is None or store is None:
        return _problem(HTTPStatus.NOT_FOUND)
    try:
        blob = store.get(key)
    except (NotFound, UsageError):
        return _problem(HTTPStatus.NOT_FOUND)
    except StoreError as error:
        log.error("%s: %s", key, error)
        return _problem(HTTPStatus.BAD_GATEWAY)
    return _blob(key, blob, headers)


def _blob(key: str, blob: Blob, wanted: Mapping[str, str]) -> Answer:
    stored = default_headers(key)
    tag = f'"{blob.version}"'
    headers = {
        "Cache-Control": stored.cache_control,
        "ETag": tag,
        "Last-Modified": format_datetime(blob.modified, usegmt=True),
    }
    if _is_known(wanted, tag, blob, "immutable" in stored.cache_control):
        return Answer(HTTPStatus.NOT_MODIFIED, headers, None)
    headers |= {"Content-Type": stored.content_type, "Accept-Ranges": "bytes"}
    size = len(blob.data)
    span = _span(wanted.get("range"), size) if wanted.get("if-range", tag) == tag else None
    if span is None:
        return Answer(HTTPStatus.OK, headers, blob.data)
    if span[0] >= span[1]:
        return _problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return Answer(HTTPStatus.PARTIAL_CONTENT, headers, blob.data[span[0] : span[1]])


def _is_known(wanted: Mapping[str, str], tag: str, blob: Blob, immutable: bool) -> bool:
    """Whether the client, or a cache on the way, has these very bytes.

    What may change does so twice within the second that times are given to, so there only its tag counts.
    """
    known = wanted.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(","))
    since = wanted.get("if-modified-since")
    try:
        return immutable and since is not None and blob.modified <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False


def _problem(status: HTTPStatus, extra: Mapping[str, str] | None = None) -> Answer:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **(extra or {})}
    return Answer(status, headers, f"{status.value} {status.phrase}\n".encode())


def _key(target: str) -> str | None:
    """The key that a request names; None for whatever is no public key."""
    path = unquote(urlsplit(target).path, errors="surrogateescape")
    root, _, key = path.removeprefix("/").partition("/")
    if root != ROOT.removeprefix("/") or _PRIVATE in key.split("/"):
        return None
    try:
        check_key(key)
    except UsageError:
        return None
    return key


def _span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None where the whole is to be sent: several ranges, or nonsense."""
    found = _RANGE.fullmatch(wanted.strip()) if wanted else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size if int(found[2]) else 0
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    return first, min(last, size - 1) + 1
