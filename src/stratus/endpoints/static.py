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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from stratus._version import __version__
from stratus.errors import NotFound, StoreError, StratusError, UsageError
from stratus.repository.layout import INFO
from stratus.stores.contract import Blob, Store, default_headers
from stratus.stores.keys import check_key
from stratus.stores.memory import MemoryStore

_IDLE = 60.0  # seconds that a connection may be silent
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_PRIVATE = ".stratus"

Route = Callable[[str], Store | None]
"""The store of a repository, or of ``info``; None for what is not served."""

log = logging.getLogger(__name__)


def everything_in(store: Store) -> Route:
    """All public parts of a store."""
    return lambda _: store


def just_these(stores: Mapping[str, Store]) -> Route:
    """Some repositories, each from its store, and a list of them."""
    listed = [{"name": fqrn, "url": f"/cvmfs/{fqrn}"} for fqrn in stores]
    info = MemoryStore()
    info.put(INFO, json.dumps({"schema": 1, "replicas": [], "repositories": listed}).encode())
    return {**stores, INFO.partition("/")[0]: info}.get


class StaticServer(ThreadingHTTPServer):
    """Serves until ``shutdown``; a thread per connection::

        with StaticServer(everything_in(store)) as server:
            server.serve_forever()

    Raises StratusError if it cannot listen there.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, route: Route, host: str = "127.0.0.1", port: int = 0) -> None:
        self.route = route
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise StratusError(f"cannot listen at {host}:{port}: {error}", hint="choose another --port") from error

    @property
    def url(self) -> str:
        """Where ``<fqrn>`` is to be appended."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/cvmfs"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Clients that go away are nothing to talk about."""
        log.debug("%s: gone", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"stratus/{__version__}"
    sys_version = ""
    timeout = _IDLE
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _refuse(self) -> None:
        self.close_connection = True  # a body may follow that nobody wants to read
        self._problem(HTTPStatus.METHOD_NOT_ALLOWED, with_body=True, extra={"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def _answer(self, with_body: bool) -> None:
        key = _key(self.path)
        store = None if key is None else cast(StaticServer, self.server).route(key.partition("/")[0])
        if key is None or store is None:
            self._problem(HTTPStatus.NOT_FOUND, with_body)
            return
        try:
            blob = store.get(key)
        except (NotFound, UsageError):
            self._problem(HTTPStatus.NOT_FOUND, with_body)
        except StoreError as error:
            log.error("%s: %s", key, error)
            self._problem(HTTPStatus.BAD_GATEWAY, with_body)
        else:
            self._send_blob(key, blob, with_body)

    def _send_blob(self, key: str, blob: Blob, with_body: bool) -> None:
        stored = default_headers(key)
        tag = f'"{blob.version}"'
        headers = {
            "Cache-Control": stored.cache_control,
            "ETag": tag,
            "Last-Modified": format_datetime(blob.modified, usegmt=True),
        }
        if self._is_known(tag, blob, "immutable" in stored.cache_control):
            self._send(HTTPStatus.NOT_MODIFIED, headers, None, with_body=False)
            return
        headers |= {"Content-Type": stored.content_type, "Accept-Ranges": "bytes"}
        size = len(blob.data)
        span = _span(self.headers.get("Range"), size) if self.headers.get("If-Range", tag) == tag else None
        if span is None:
            self._send(HTTPStatus.OK, headers, blob.data, with_body)
        elif span[0] >= span[1]:
            extra = {"Content-Range": f"bytes */{size}"}
            self._problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, with_body, extra)
        else:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
            self._send(HTTPStatus.PARTIAL_CONTENT, headers, blob.data[span[0] : span[1]], with_body)

    def _is_known(self, tag: str, blob: Blob, immutable: bool) -> bool:
        """Whether the client, or a cache on the way, has these very bytes.

        What may change does so twice within the second that times are given to, so there only its tag counts.
        """
        known = self.headers.get("If-None-Match")
        if known is not None:
            return known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(","))
        since = self.headers.get("If-Modified-Since")
        try:
            return immutable and since is not None and blob.modified <= parsedate_to_datetime(since)
        except (ValueError, TypeError):
            return False

    def _problem(self, status: HTTPStatus, with_body: bool, extra: Mapping[str, str] | None = None) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **(extra or {})}
        self._send(status, headers, f"{status.value} {status.phrase}\n".encode(), with_body)

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes | None, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and body is not None:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        log.info("%s %s", self.address_string(), format % arguments)


def _key(target: str) -> str | None:
    """The key that a request names; None for whatever is no public key."""
    path = unquote(urlsplit(target).path, errors="surrogateescape")
    root, _, key = path.removeprefix("/").partition("/")
    if root != "cvmfs" or _PRIVATE in key.split("/"):
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
