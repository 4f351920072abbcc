"""The API as its clients see it: signed requests, repeated where their answers were lost.

Every request may be sent twice: a second acquisition supersedes the first, everything else comes to the same again.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import msgspec
import urllib3

from stratus._version import __version__
from stratus.errors import BadFormat, LeaseHeld, Refused, StoreError, StratusError, UsageError
from stratus.formats import messages
from stratus.formats.messages import (
    CHANGE_SET_TYPE,
    LONGEST_LEASE_WAIT,
    LONGEST_WAIT,
    PROBLEM_TYPE,
    TOKEN_HEADER,
    ClaimInfo,
    ClaimList,
    Grants,
    GrantsRequest,
    LeaseGranted,
    LeaseRenewed,
    LeaseRequest,
    Message,
    Problem,
    Queued,
    QueueInfo,
    Status,
    UploadGrant,
    Wanted,
)
from stratus.formats.receipt import Receipt
from stratus.stores.contract import Observer
from stratus.stores.observing import Watch
from stratus.stores.parallel import WORKERS
from stratus.stores.retries import attempts, pause, reason
from stratus.trust.credentials import Credential

_CONNECT = 10.0  # seconds
_READ = 45.0  # seconds for an answer; functions have 30
_PASSING = frozenset({408, 429, 502, 503, 504})
_PASSING_UPLOADS = _PASSING | {400, 409, 500}  # 400: the bytes were damaged on the way
_GRANTS = "/leases/{id}/grants"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
_LONGEST_LEASE_PAUSE = 2.0  # seconds between two attempts at a lease that somebody holds
_PUBLISHING = 3.0  # seconds that it is waited for in any case, while a change set is published under it
_PATIENCE = 60.0  # seconds in which a request is repeated, once the API has been heard of
_FIRST_PATIENCE = 5.0  # and before
_PORTS = {"http": 80, "https": 443}
_HINT = "check `api` in config.toml, or --api: it is the URL of the server, without /api/v1"

T = TypeVar("T")


class LeaseName(msgspec.Struct, frozen=True):
    """What names a lease to the API; None is the path of one that leaves the tree alone."""

    id: str
    path: bytes | None

    def target(self, what: str, **query: str) -> str:
        """With the id in the place of ``{id}``, and the path in the query."""
        named: dict[str, str | bytes] = {**query} if self.path is None else {"path": self.path, **query}
        found = what.format(id=quote(self.id, safe=""))
        return f"{found}?{urlencode(named)}" if named else found


class _Passing(Exception):
    """An answer that may be another one in a moment, or none: status 0; ``after`` so many seconds, if it says so."""

    def __init__(self, error: StratusError, after: float = 0.0, status: int = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        self.status = status


class GrantOver(Refused):
    """A grant that is not good any more; another one may be."""


class ApiClient:
    """One repository behind an API, asked with a writer's key or token; thread-safe.

    Everything raises what the API answers (LeaseHeld, NotPermitted, …), and StoreError if it does not answer.
    """

    def __init__(self, url: str, fqrn: str, credential: Credential) -> None:
        """``url`` is that of the server, without ``/api/v1``. Nothing is asked yet. Raises UsageError."""
        self.url = _normal(url)
        self.fqrn = fqrn
        self._base = f"{self.url}/api/v1/repositories/{quote(fqrn)}"
        self._credential = credential
        self._heard = False
        timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
        self._pool = urllib3.PoolManager(maxsize=4, retries=False, timeout=timeout)
        self._uploads = urllib3.PoolManager(maxsize=WORKERS, retries=False, timeout=timeout)

    def __reduce__(self) -> tuple[type[ApiClient], tuple[object, ...]]:
        return type(self), (self.url, self.fqrn, self._credential)

    @property
    def credential(self) -> str:
        """What it asks with, for people and for names of files."""
        return self._credential.name

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()
        self._uploads.clear()

    # -- what can be asked -------------------------------------------------------------------------------------------

    def status(self) -> Status:
        return _parse(self._repeat("GET", ""), Status)

    def acquire(self, wish: LeaseRequest, wait: float) -> LeaseGranted:
        """Attempts until one succeeds. Raises LeaseHeld after ``wait`` seconds."""
        attempts = itertools.count(1)
        begun = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            left = min(max(begun + wait - time.monotonic(), 0.0), LONGEST_LEASE_WAIT)

            def attempt(left: float = left) -> urllib3.BaseHTTPResponse:
                asked = msgspec.structs.replace(wish, attempt=next(attempts), wait=left)
                return self._ask("POST", "/leases", messages.pack(asked))

            try:
                return _parse(self._patiently(attempt), LeaseGranted)
            except LeaseHeld as error:
                patience = wait if error.expires is not None else max(wait, _PUBLISHING)
                rest = begun + patience - time.monotonic()
                if rest <= 0 and not left:  # the API knows that it was the last attempt
                    raise
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(rest, 0.0)))
            pause = min(2 * pause, _LONGEST_LEASE_PAUSE)

    def leases(self) -> tuple[ClaimInfo, ...]:
        return _parse(self._repeat("GET", "/leases"), ClaimList).leases

    def renew(self, lease: LeaseName, token: str, patience: float = _PATIENCE) -> LeaseRenewed:
        """Raises LeaseLost."""
        headers = {TOKEN_HEADER: token}
        return _parse(self._repeat("PUT", lease.target("/leases/{id}"), b"", headers, patience), LeaseRenewed)

    def release(self, lease: LeaseName, token: str, patience: float = _PATIENCE) -> None:
        self._repeat("DELETE", lease.target("/leases/{id}"), b"", {TOKEN_HEADER: token}, patience)

    def break_(self, lease: LeaseName) -> None:
        """Ends somebody's lease. Raises Busy if a change set was submitted under it, LeaseLost if it is gone."""
        self._repeat("POST", lease.target("/leases/{id}/break"))

    def grants(self, lease: LeaseName, token: str, objects: Sequence[Wanted]) -> Grants:
        """What is there of at most ``MOST_GRANTS`` objects; grants for the rest. Raises LeaseLost, QuotaExceeded."""
        body = messages.pack(GrantsRequest(tuple(objects)))
        return _parse(self._repeat("POST", lease.target(_GRANTS), body, {TOKEN_HEADER: token}), Grants)

    def put(self, lease: LeaseName, grant: UploadGrant, body: bytes, observer: Observer) -> bool:
        """Uploads what was granted, unsigned; whether it was not there yet. Raises GrantOver, LeaseLost, StoreError.

        An object is what its name says, whoever puts it, so a PUT whose answer was lost is repeated.
        """
        url = urljoin(self._base + lease.target(_GRANTS), grant.url)
        for attempt in itertools.count():
            try:
                return self._put(url, grant, body, observer)
            except _Passing as passing:
                if attempt + 1 >= attempts(passing.status):
                    raise passing.error from passing
            pause(attempt)
        raise AssertionError("unreachable")

    def _put(self, url: str, grant: UploadGrant, body: bytes, observer: Observer) -> bool:
        where = url.partition("?")[0]
        watch = Watch(observer, "put", grant.id)
        try:
            reply = self._uploads.request("PUT", url, body=body, headers=dict(grant.headers), redirect=False)
        except urllib3.exceptions.HTTPError as error:
            watch.tell(0, sent=len(body))
            raise _Passing(StoreError(f"no answer to PUT {where}: {reason(error)}")) from error
        watch.tell(reply.status, sent=len(body))
        if reply.status in (200, 201, 204):
            return True
        if reply.status == 412:
            return False
        answered = self._error(reply, url)
        if reply.status == 403:
            raise GrantOver(answered.message, hint="publish again; is a clock wrong, or the network slow?")
        if reply.status in _PASSING_UPLOADS:
            raise _Passing(answered, status=reply.status)
        raise answered

    def submit(self, lease: LeaseName, token: str, file: bytes, staged: str | None = None) -> Receipt | Queued:
        """The packed change set, or the digest of one that was staged. Raises LeaseLost, Rejected, Busy."""
        target = lease.target("/change-sets/{id}", **({} if staged is None else {"staged": staged}))
        headers = {TOKEN_HEADER: token, "Content-Type": CHANGE_SET_TYPE}
        return _receipt(self._repeat("POST", target, file, headers))

    def receipt(self, change_set: str, wait: float = 0.0) -> Receipt | Queued:
        """The receipt, if it is there within ``wait`` seconds. Raises NotFound for a change set that is not known."""
        seconds = min(wait, LONGEST_WAIT)
        return _receipt(self._repeat("GET", f"/change-sets/{quote(change_set, safe='')}/receipt?wait={seconds:g}"))

    def queue(self) -> QueueInfo:
        return _parse(self._repeat("GET", "/queue"), QueueInfo)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _repeat(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        patience: float = _PATIENCE,
    ) -> urllib3.BaseHTTPResponse:
        return self._patiently(lambda: self._ask(method, target, body, headers or {}), patience)

    def _patiently(self, attempt: Callable[[], T], patience: float = _PATIENCE) -> T:
        """Repeats it while the answer may be another one in a moment."""
        begun = time.monotonic()
        backoff = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except _Passing as passing:
                # Many may have been told the same.
                pause = max(backoff * random.uniform(0.5, 1.0), passing.after * random.uniform(1.0, 1.2))
                until = begun + (patience if self._heard else min(patience, _FIRST_PATIENCE))
                if time.monotonic() + pause > until:
                    raise passing.error from passing
            time.sleep(pause)
            backoff = min(2 * backoff, _LONGEST_PAUSE)

    def _ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Signs and sends it once. Raises _Passing, or the error that is answered."""
        url = self._base + target
        fields = {"User-Agent": f"stratus/{__version__}", **(headers or {})}
        signed = self._credential.headers(method, url, fields, body, datetime.now(UTC))
        try:
            reply = self._pool.request(method, url, body=body or None, headers=signed, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise _Passing(StoreError(f"no answer from {self.url}: {reason(error)}", hint=_HINT)) from error
        if 200 <= reply.status < 300:
            self._heard = True
            return reply
        answered = self._error(reply, url)
        if reply.status in _PASSING:
            after = reply.headers.get("Retry-After", "")
            raise _Passing(answered, float(after) if after.isdecimal() else 0.0)
        raise answered

    def _error(self, reply: urllib3.BaseHTTPResponse, url: str) -> StratusError:
        if reply.headers.get("Content-Type", "").partition(";")[0].strip() == PROBLEM_TYPE:
            self._heard = True
            with contextlib.suppress(BadFormat):
                return messages.parse(reply.data, Problem).error()
        return StoreError(f"{url.partition('?')[0]} was answered {reply.status} {reply.reason}", hint=_HINT)


def _normal(url: str) -> str:
    """As the server sees it, for it is signed: no default port, no upper case in the host. Raises UsageError."""
    wrong = UsageError(f"{url} is no URL of an API", hint="write http(s)://host[:port]")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise wrong
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _parse(reply: urllib3.BaseHTTPResponse, kind: type[Message]) -> Message:
    try:
        return messages.parse(reply.data, kind)
    except BadFormat as error:
        raise _no_answer(error) from error


def _receipt(reply: urllib3.BaseHTTPResponse) -> Receipt | Queued:
    try:
        return Receipt.parse(reply.data) if reply.status == 200 else messages.parse(reply.data, Queued)
    except BadFormat as error:
        raise _no_answer(error) from error


def _no_answer(error: BadFormat) -> StoreError:
    return StoreError(f"something else than the API answered: {error.message}", hint=_HINT)
