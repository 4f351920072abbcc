"""S3 requests of our own: dated by the store's clock, signed, sent once over connections that are kept."""

from __future__ import annotations

import itertools
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping

import msgspec

from stratus._version import __version__
from stratus.errors import Refused, StoreError, Unsuitable
from stratus.stores.clock import Clock
from stratus.stores.connections import Connections, NotConnected
from stratus.stores.contract import Observer, Verb
from stratus.stores.observing import Watch
from stratus.stores.parallel import WORKERS
from stratus.stores.retries import ATTEMPTS, Lost, attempts, passes, pause, reason
from stratus.stores.s3_place import Place
from stratus.stores.s3_signing import Signer

CONNECT_TIMEOUT = 10.0  # seconds
_PASSING_CODES = frozenset({"OperationAborted", "ConditionalRequestConflict"})
READ_TIMEOUT = 60.0  # seconds; contended keys of some servers take many
_AGENT = {"User-Agent": f"stratus/{__version__}"}


class Signed(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    verb: Verb
    key: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """Status, headers (by names in lower case) and body of an answer, and what asked for it."""

    signed: Signed
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def version(self) -> str:
        return self.headers.get("etag", "").strip('"')

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


class Wire:
    """Signs and sends; thread-safe."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = Clock()
        self._signer = Signer(place.region)
        self._connections = Connections(
            place.base,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            kept=2 * WORKERS,
            certificates=os.environ.get("AWS_CA_BUNDLE"),
        )
        self._origin = "/".join(place.base.split("/", 3)[:3])

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
        fields = {"Host": self._connections.host, **(headers or {})}
        credentials = self.place.credentials
        if credentials is not None:
            target, keys = self._target(url), credentials.get_frozen_credentials()
            fields = self._signer.sign(keys, method, target, fields, body, self.clock.now())
        told = label if label is not None else key or ""
        return Signed(verb, told, method, url, fields, body)

    def _target(self, url: str) -> str:
        return url[len(self._origin) :]

    def presign(self, key: str, headers: Mapping[str, str], seconds: int) -> str:
        """The URL of a PUT with just these headers. The place must have credentials."""
        from stratus.stores.s3_grants import presign_put

        assert self.place.credentials is not None
        keys = self.place.credentials.get_frozen_credentials()
        return presign_put(keys, self.place.region, self.place.address(key), headers, seconds, self.clock.now())

    def send(self, signed: Signed, observer: Observer) -> Reply:
        """Sends it once. Raises Lost."""
        watch = Watch(observer, signed.verb, signed.key)
        try:
            answer = self._connections.ask(
                signed.method, self._target(signed.url), {**signed.headers, **_AGENT}, signed.body
            )
        except OSError as error:
            watch.tell(0, sent=len(signed.body))
            lost = Lost(f"no answer to {signed.method} {signed.url.partition('?')[0]}: {reason(error)}")
            lost.sent = not isinstance(error, NotConnected)
            raise lost from error
        watch.tell(answer.status, sent=len(signed.body), received=len(answer.body))
        self.clock.learn(answer.headers.get("date", ""))
        return Reply(signed, answer.status, answer.headers, answer.body)

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
                passing = passes(reply.status) or (reply.status == 409 and reply.code in _PASSING_CODES)
                if not passing or attempt + 1 >= attempts(reply.status):
                    return reply
            pause(attempt)
        raise AssertionError("unreachable")


def texts(element: ET.Element) -> dict[str, str]:
    """The children's texts by their names, whatever the name space."""
    return {_name(child): child.text or "" for child in element}


def children(element: ET.Element, name: str) -> list[dict[str, str]]:
    """The texts of all children of this name."""
    return [texts(child) for child in element if _name(child) == name]


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(body: bytes, name: str) -> str:
    if not body.lstrip().startswith(b"<"):
        return ""
    try:
        return texts(ET.fromstring(body)).get(name, "").strip()
    except ET.ParseError:
        return ""
