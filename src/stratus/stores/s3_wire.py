"""S3 requests of our own: signed by botocore, dated by the store's clock, sent once over one pool of connections."""

from __future__ import annotations

import itertools
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from stratus._version import __version__
from stratus.errors import Refused, StoreError, Unsuitable
from stratus.stores.clock import Clock
from stratus.stores.contract import Observer, Verb
from stratus.stores.observing import Watch
from stratus.stores.parallel import WORKERS
from stratus.stores.retries import ATTEMPTS, Lost, attempts, passes, pause, reason
from stratus.stores.s3_place import Place

CONNECT_TIMEOUT = 10.0  # seconds
_PASSING_CODES = frozenset({"OperationAborted", "ConditionalRequestConflict"})
READ_TIMEOUT = 60.0  # seconds; contended keys of some servers take many


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that is ready to be sent."""

    verb: Verb
    key: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and body of an answer, and what asked for it."""

    signed: Signed
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def version(self) -> str:
        return self.headers.get("ETag", "").strip('"')

    @property
    def code(self) -> str:
        """S3's error code, empty if there is none (as in all answers to HEAD)."""
        return _text(self.body, "Code")

    def failure(self, anonymous: bool) -> StoreError:
        """The error for an answer that is neither success nor what the caller is prepared for."""
        said = " ".join(filter(None, (str(self.status), self.code, _text(self.body, "Message"))))
        message = f"{self.signed.method} {self.signed.url.partition('?')[0]} was answered {said}"
        if self.status in (401, 403):
            hint = (
                "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                if anonymous
                else None
            )
            return Refused(message, hint=hint)
        if self.status in (301, 307, 308):
            region = self.headers.get("x-amz-bucket-region", "NAME")
            return StoreError(message, hint=f"the bucket is elsewhere: write ?region={region} or another endpoint")
        if self.code == "NoSuchBucket":
            return StoreError(message, hint="create the bucket first, or check its name and the endpoint")
        if self.status in (405, 501):
            return Unsuitable(message, hint="the server cannot do this: use another one")
        return StoreError(message, hint="check the store's URL, and the server's log")


class _Dated:
    """Makes botocore's signers use the time that it is told."""

    moment: Callable[[], datetime]

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = self.moment().strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


class _HeaderSigner(_Dated, S3SigV4Auth):  # type: ignore[misc]
    pass


class _QuerySigner(_Dated, S3SigV4QueryAuth):  # type: ignore[misc]
    pass


class Wire:
    """Signs and sends; thread-safe."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = Clock()
        self._pool = urllib3.PoolManager(
            maxsize=2 * WORKERS,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            ca_certs=os.environ.get("AWS_CA_BUNDLE"),
        )

    def sign(
        self,
        verb: Verb,
        method: str,
        key: str | None,
        *,
        query: dict[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        label: str | None = None,
    ) -> Signed:
        """``key`` None is the bucket itself; ``label`` is what observers are told, if not the key."""
        url = self.place.address(key, query)
        request = AWSRequest(method, url, {"User-Agent": f"stratus/{__version__}", **(headers or {})}, body)
        if self.place.credentials is not None:
            signer = _HeaderSigner(self.place.credentials.get_frozen_credentials(), "s3", self.place.region)
            signer.moment = self.clock.now
            signer.add_auth(request)
        told = label if label is not None else key or ""
        return Signed(verb, told, method, url, dict(request.headers.items()), body)

    def presign(self, key: str, headers: Mapping[str, str], seconds: int) -> str:
        """The URL of a PUT with just these headers. The place must have credentials."""
        assert self.place.credentials is not None
        request = AWSRequest("PUT", self.place.address(key), dict(headers))
        signer = _QuerySigner(self.place.credentials.get_frozen_credentials(), "s3", self.place.region, seconds)
        signer.moment = self.clock.now
        signer.add_auth(request)
        return str(request.url)

    def send(self, signed: Signed, observer: Observer) -> Reply:
        """Sends it once. Raises Lost."""
        watch = Watch(observer, signed.verb, signed.key)
        try:
            answer = self._pool.request(
                signed.method,
                signed.url,
                body=signed.body,
                headers=signed.headers,
                redirect=False,
                decode_content=False,
            )
        except HTTPError as error:
            watch.tell(0, sent=len(signed.body))
            lost = Lost(f"no answer to {signed.method} {signed.url.partition('?')[0]}: {reason(error)}")
            lost.sent = not isinstance(error, (NewConnectionError, ConnectTimeoutError))
            raise lost from error
        watch.tell(answer.status, sent=len(signed.body), received=len(answer.data))
        self.clock.learn(answer.headers.get("Date", ""))
        return Reply(signed, answer.status, answer.headers, answer.data)

    def ask(self, sign: Callable[[], Signed], observer: Observer) -> Reply:
        """Signs and sends, again and again while that may help: for what does no harm twice. Raises Lost."""
        for attempt in itertools.count():
            known = self.clock.known
            try:
                reply = self.send(sign(), observer)
            except Lost:
                if attempt + 1 >= ATTEMPTS:
                    raise
            else:
                if reply.status == 403 and self.clock.known and not known:
                    continue  # it may have been the date, which the host's clock gave
                passing = passes(reply.status) or reply.code in _PASSING_CODES
                if not passing or attempt + 1 >= attempts(reply.status):
                    return reply
            pause(attempt)
        raise AssertionError("unreachable")


def elements(body: bytes, *path: str) -> list[dict[str, str]]:
    """The children's texts of each element of this name, whatever the name space."""
    found = [ET.fromstring(body)]
    for name in path:
        found = [child for element in found for child in element if local_name(child) == name]
    return [{local_name(child): child.text or "" for child in element} for element in found]


def local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(body: bytes, name: str) -> str:
    if not body.lstrip().startswith(b"<"):
        return ""
    try:
        return elements(body)[0].get(name, "").strip()
    except ET.ParseError:
        return ""
