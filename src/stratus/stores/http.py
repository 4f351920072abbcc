"""A read-only store behind any web server that serves a store's tree: HTTP/1.1, nothing clever.

Bytes come as they are stored: no encoding is asked for and none accepted, redirects are not followed. An object that a
cache on the way has damaged is asked for once more, past all caches.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal, NoReturn
from urllib.parse import quote, urlsplit

import urllib3
from typing_extensions import Buffer
from urllib3.util import SKIP_HEADER

from stratus._version import __version__
from stratus.errors import NotFound, Refused, StoreError, Unsuitable, UsageError
from stratus.formats.hashes import Digest
from stratus.stores.clock import Clock
from stratus.stores.contract import (
    ALWAYS,
    Blob,
    Condition,
    Created,
    Grant,
    Headers,
    Item,
    Observer,
    Prepared,
    Present,
    Stat,
    Version,
    ignore,
)
from stratus.stores.keys import check_key, object_name
from stratus.stores.observing import Watch, both
from stratus.stores.parallel import WORKERS, each
from stratus.stores.retries import Lost, again, passes, reason

TIMEOUT = 10.0  # seconds, to connect and between two pieces of an answer
_PAST_CACHES = {"Cache-Control": "no-cache", "Pragma": "no-cache"}


class HttpStore:
    """What is below a URL; thread-safe.

    Versions are hashes of the bytes (what servers send as ETag often is not); of an object, the name.
    """

    def __init__(self, url: str) -> None:
        """Nothing is contacted yet. Raises UsageError for a URL with a query or without a host."""
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise UsageError(f"{url} is no URL of a store", hint="write http(s)://host[:port]/path")
        self._base = url.rstrip("/")
        self._observer: Observer = ignore
        self._clock = Clock()
        self._pool = urllib3.PoolManager(
            maxsize=2 * WORKERS,
            retries=False,
            timeout=TIMEOUT,
            headers={"User-Agent": f"stratus/{__version__}", "Accept-Encoding": SKIP_HEADER},
        )

    @property
    def url(self) -> str:
        return self._base

    def observed(self, observer: Observer) -> HttpStore:
        """A view of the same tree over the same connections."""
        view = object.__new__(HttpStore)
        view._base, view._clock, view._pool = self._base, self._clock, self._pool
        view._observer = both(self._observer, observer)
        return view

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        name = object_name(key)
        if span is None or name is None:  # a part does not tell the version of the whole
            reply = self._ask("get", key)
            if span is None and name is not None and not _is_object(name, reply.data):
                reply = self._ask("get", key, _PAST_CACHES)  # if that is damaged, too, whoever wants it finds out
            version = Version(name) if name is not None else _version(reply.data)
            data = reply.data if span is None else reply.data[span[0] : max(span)]
            return Blob(data, version, self._modified(reply.headers))
        if span[1] <= span[0]:
            return Blob(b"", Version(name), self._modified(self._ask("head", key).headers))
        reply = self._ask("get", key, {"Range": f"bytes={span[0]}-{span[1] - 1}"})
        if reply.status == 416:
            return Blob(b"", Version(name), self._modified(self._ask("head", key).headers))
        data = reply.data if reply.status == 206 else reply.data[span[0] : span[1]]
        return Blob(data, Version(name), self._modified(reply.headers))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Blob | None]]:
        return each(self._find, keys)

    def _find(self, key: str) -> tuple[str, Blob | None]:
        try:
            return key, self.get(key)
        except NotFound:
            return key, None

    def missing(self, keys: Iterable[str]) -> set[str]:
        return {key for key, there in each(lambda key: (key, self._has(key)), keys) if not there}

    def _has(self, key: str) -> bool:
        try:
            self._ask("head", key)
        except NotFound:
            return False
        return True

    def sync(self) -> None:
        """Nothing is ever put."""

    def now(self) -> datetime:
        """The server's clock, if it says the time."""
        if not self._clock.known:
            self._has("info/v1/repositories.json")
        return self._clock.now()

    # -- the requests ------------------------------------------------------------------------------------------------

    def _ask(
        self, verb: Literal["get", "head"], key: str, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        check_key(key)
        return again(lambda: self._ask_once(verb, key, headers or {}))

    def _ask_once(self, verb: Literal["get", "head"], key: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        url = f"{self._base}/{quote(key, safe='/-._~')}"
        watch = Watch(self._observer, verb, key)
        try:
            reply = self._pool.request(
                verb.upper(), url, headers={**self._pool.headers, **headers}, redirect=False, decode_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            watch.tell(0)
            raise Lost(f"no answer from {url}: {reason(error)}") from error
        watch.tell(reply.status, received=len(reply.data))
        self._clock.learn(reply.headers.get("Date", ""))
        if reply.status in (403, 404, 410):  # S3 answers 403 to those who may not list
            raise NotFound(f"there is no {url} ({reply.status})")
        if passes(reply.status):
            raise Lost(f"{url} was answered {reply.status} {reply.reason}", hint="the server is in trouble")
        if 300 <= reply.status < 400:
            target = reply.headers.get("Location", "nowhere")
            if urlsplit(target).path == f"{urlsplit(url).path}/":
                raise NotFound(f"there is no {url}: it is a directory")
            raise StoreError(f"{url} redirects to {target}, which is not followed", hint="use the URL of that place")
        if reply.status not in (200, 206, 416):
            raise StoreError(f"{url} was answered {reply.status} {reply.reason}")
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise StoreError(
                f"{url} came with Content-Encoding {reply.headers['Content-Encoding']}, which was not asked for",
                hint="make the web server, or the proxy, send files as they are",
            )
        return reply

    def _modified(self, headers: Mapping[str, str]) -> datetime:
        try:
            return parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC)
        except (KeyError, ValueError):
            return self._clock.now().replace(microsecond=0)

    # -- what a web server cannot do ---------------------------------------------------------------------------------

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:  # noqa: ARG002
        raise Unsuitable(
            f"{self._base} cannot be listed: it is a plain web server",
            hint="use the store's own URL (s3://…, file://…)",
        )

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:  # noqa: ARG002
        self._refuse()

    def delete(self, keys: Iterable[str]) -> set[str]:  # noqa: ARG002
        self._refuse()

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Prepared[Version]:  # noqa: ARG002
        self._refuse()

    def prepare_delete(self, keys: Iterable[str]) -> Prepared[set[str]]:  # noqa: ARG002
        self._refuse()

    def put_many(self, items: Iterable[Item]) -> Iterator[Created | Present]:  # noqa: ARG002
        self._refuse()

    def copy(self, source: str, target: str, match: Version) -> Version:  # noqa: ARG002
        self._refuse()

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:  # noqa: ARG002
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Refused(f"{self._base} is read-only", hint="write to the store's own URL (s3://…, file://…)")


def _is_object(name: str, data: bytes) -> bool:
    digest = Digest.parse(name.rstrip(string.ascii_uppercase))
    return digest.algorithm.digest(data) == digest


def _version(data: bytes) -> Version:
    return Version(hashlib.sha1(data, usedforsecurity=False).hexdigest())
