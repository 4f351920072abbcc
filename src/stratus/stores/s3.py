"""A store in an S3 bucket.

obstore carries the objects (``data/xx/…``); everything else, and every listing, delete and conditional write of a
pointer, is a request of our own (``s3_wire.py``): they need byte prefixes, the store's clock and their own signing
time. So are objects while the host's clock is wrong. Versions are ETags, compared and sent without quotes (Ceph RGW
takes no others).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape

from typing_extensions import Buffer

from stratus.errors import Changed, Exists, NotFound, Refused, StoreError, Unknown, Unsuitable
from stratus.stores.clock import parse_date
from stratus.stores.contract import (
    ALWAYS,
    Absent,
    Always,
    Blob,
    Condition,
    Created,
    Exchange,
    Grant,
    Headers,
    Item,
    Match,
    Observer,
    Present,
    Stat,
    Version,
    default_headers,
    ignore,
)
from stratus.stores.keys import check_key, object_name
from stratus.stores.observing import both, pages
from stratus.stores.parallel import each, interruptible
from stratus.stores.prepared import Deferred
from stratus.stores.retries import ATTEMPTS, Lost, again, attempts, pause
from stratus.stores.s3_objects import Objects
from stratus.stores.s3_place import FixedKeys, Place, find_place
from stratus.stores.s3_wire import Reply, Signed, Wire, children, texts

T = TypeVar("T")

_TOLERANCE = timedelta(minutes=5)  # S3 refuses what is signed 15 minutes off


class S3Store:
    """A prefix of a bucket; thread-safe. Without credentials it is used anonymously."""

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint: str | None = None, region: str | None = None
    ) -> None:
        """What is not given is found as AWS tools find it; nothing is contacted yet. Raises UsageError."""
        self._open(find_place(bucket, prefix, endpoint=endpoint, region=region))

    @classmethod
    def at(cls, place: Place) -> S3Store:
        """The store at a place that is known already."""
        store = object.__new__(cls)
        store._open(place)
        return store

    def _open(self, place: Place) -> None:
        self._place = place
        self._wire = Wire(place)
        self._objects = Objects(place)
        self._observer: Observer = ignore

    @property
    def url(self) -> str:
        return self._place.url

    @property
    def place(self) -> Place:
        """Bucket, prefix, endpoint, region."""
        return self._place

    def observed(self, observer: Observer) -> S3Store:
        """A view of the same bucket over the same connections."""
        view = object.__new__(S3Store)
        view._place, view._wire, view._objects = self._place, self._wire, self._objects
        view._observer = both(self._observer, observer)
        return view

    def elsewhere(self) -> Callable[[], S3Store]:
        credentials = self._place.credentials
        if credentials is None or isinstance(credentials, FixedKeys):
            return functools.partial(S3Store.at, self._place)
        return functools.partial(_open_again, self.url)  # they are found there as they were here

    def tell(self, exchange: Exchange) -> None:
        self._observer(exchange)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        check_key(key)
        if span is None:
            return self._carry(
                key, lambda: again(lambda: self._objects.get(key, self._observer)), lambda: self._get(key)
            )
        return self._get(key, span)

    def _get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        headers = {}
        if span is not None:
            if span[1] <= span[0]:
                return self._empty(key)
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        reply = self._ask(lambda: self._wire.sign("get", "GET", key, headers=headers))
        if span is not None and reply.status == 416:
            return self._empty(key)
        self._check_found(reply, (200, 206))
        data = reply.body
        if span is not None and reply.status == 200:
            data = data[span[0] : span[1]]
        return Blob(data, Version(reply.version), _date(reply))

    def _empty(self, key: str) -> Blob:
        reply = self._ask(lambda: self._wire.sign("head", "HEAD", key))
        self._check_found(reply, (200,))
        return Blob(b"", Version(reply.version), _date(reply))

    def _check_found(self, reply: Reply, good: tuple[int, ...]) -> None:
        if reply.status in good:
            return
        if reply.status == 404 and reply.code != "NoSuchBucket":
            raise NotFound(f"there is no {reply.signed.url}")
        if reply.status == 403 and self._anonymous:  # S3 tells only those who may list that a key is missing
            raise NotFound(f"there is no {reply.signed.url}, or it is not public")
        raise reply.failure(self._anonymous)

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:
        """In the order that the server has, which is that of the keys' bytes on most."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": self._place.prefix + prefix}
        if after:
            query["start-after"] = self._place.prefix + after
        while True:
            page = self._good(
                self._ask(lambda: self._wire.sign("list", "GET", None, query=query, label=prefix)), (200,)
            )
            listing = _parsed(page, "a listing")
            head = texts(listing)
            if "IsTruncated" not in head:
                raise _no_server(page, "a listing")
            decode: Callable[[str], str] = unquote_plus if head.get("EncodingType") == "url" else str
            for item in children(listing, "Contents"):
                key = decode(item["Key"])[len(self._place.prefix) :]
                if not key.startswith(prefix):  # SeaweedFS takes two slashes for one
                    continue
                yield Stat(
                    key,
                    int(item["Size"]),
                    Version(item.get("ETag", "").strip('"')),
                    datetime.fromisoformat(item["LastModified"]).astimezone(UTC).replace(microsecond=0),
                )
            if head.get("IsTruncated") != "true":
                return
            query.pop("start-after", None)
            query["continuation-token"] = head["NextContinuationToken"]

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
        check_key(key)
        return self._carry(
            key, lambda: again(lambda: self._objects.has(key, self._observer)), lambda: self._is_there(key)
        )

    def _is_there(self, key: str) -> bool:
        try:
            self._empty(key)
        except NotFound:
            return False
        return True

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        check_key(key)
        headers = headers or default_headers(key)
        if isinstance(when, Match):
            return self._put(key, data, when, headers)
        return self._carry(
            key, lambda: self._put_object(key, data, when, headers), lambda: self._put(key, data, when, headers)
        )

    def _put(self, key: str, data: Buffer, when: Condition, headers: Headers) -> Version:
        body = bytes(data)
        if isinstance(when, Always):
            reply = self._ask(lambda: self._sign_put(key, body, when, headers))
            return Version(self._good(reply, (200,)).version)
        return self._dated(lambda: self._send_put(self._sign_put(key, body, when, headers), when))

    def _put_object(self, key: str, data: Buffer, when: Condition, headers: Headers) -> Version:
        if isinstance(when, Always):
            return again(lambda: self._objects.put(key, data, False, headers, self._observer))
        try:
            return self._objects.put(key, data, True, headers, self._observer)
        except Lost as error:
            if error.sent:
                raise _unknown(error) from error
            raise

    def _sign_put(self, key: str, body: bytes, when: Condition, headers: Headers) -> Signed:
        fields = _fields(headers)
        match when:
            case Absent():
                fields["If-None-Match"] = "*"
            case Match(version):
                fields["If-Match"] = version
        return self._wire.sign("put", "PUT", key, headers=fields, body=body)

    def _send_put(self, signed: Signed, when: Condition) -> Version:
        """Sends a put once, but for answers that say that it did nothing and may be sent again."""
        for attempt in range(ATTEMPTS):
            try:
                reply = self._wire.send(signed, self._observer)
            except Lost as error:
                if error.sent and not isinstance(when, Always):
                    raise _unknown(error) from error
                raise
            if reply.status != 409:
                break
            pause(attempt)
        match reply.status:
            case 200:
                return Version(reply.version)
            case 412 if isinstance(when, Absent):
                raise Exists(f"{signed.url} exists")
            case 412:
                raise Changed(f"{signed.url} is not what it was taken for")
            case 404 if isinstance(when, Match) and reply.code != "NoSuchBucket":
                raise Changed(f"{signed.url} is gone")
            case 501:
                raise Unsuitable(f"{signed.url}: the server does not know conditional writes", hint="use another store")
            case status if status >= 500 and not isinstance(when, Always):
                raise _unknown(reply.failure(self._anonymous))
        raise reply.failure(self._anonymous)

    def put_many(self, items: Iterable[Item]) -> Iterator[Created | Present]:
        """A put whose answer was lost is repeated: objects are what their names say, whoever put them."""
        return each(self._create, items)

    def _create(self, item: Item) -> Created | Present:
        for attempt in itertools.count():
            try:
                self.put(item.key, item.data, Absent())
            except Exists:
                return Present(item.key)
            except Unknown as error:
                status = error.__cause__.status if isinstance(error.__cause__, Lost) else 0
                if attempt + 1 >= attempts(status):
                    raise
                pause(attempt)
            else:
                break
        return Created(item.key)

    def copy(self, source: str, target: str, match: Version) -> Version:
        check_key(source)
        check_key(target)
        headers = {
            **_fields(default_headers(target)),
            "x-amz-copy-source": quote(f"/{self._place.bucket}/{self._place.prefix}{source}", safe="/-._~"),
            "x-amz-copy-source-if-match": match,
            "x-amz-copy-if-match": match,  # what Ceph RGW calls it
            "x-amz-metadata-directive": "REPLACE",
        }
        reply = self._ask(lambda: self._wire.sign("put", "PUT", target, headers=headers))
        if reply.status == 412:
            raise Changed(f"{source} in {self.url} is not what it was taken for")
        if reply.status == 404 and reply.code != "NoSuchBucket":
            raise NotFound(f"there is no {source} in {self.url}")
        self._good(reply, (200,))
        etag = texts(_parsed(reply, "a result")).get("ETag", "")
        if not etag:  # S3 may begin to answer before it has failed
            raise reply.failure(self._anonymous)
        return Version(etag.strip('"'))

    def delete(self, keys: Iterable[str]) -> set[str]:
        done: set[str] = set()
        for page in pages(keys):
            if page:
                done |= self._dated(functools.partial(self._sign_and_delete, page))
        return done

    def _sign_and_delete(self, keys: Sequence[str]) -> set[str]:
        return self._send_delete(self._sign_delete(keys), keys)

    def _sign_delete(self, keys: Sequence[str]) -> Signed:
        for key in keys:
            check_key(key)
        if len(keys) == 1:
            return self._wire.sign("delete", "DELETE", keys[0])
        listed = "".join(f"<Object><Key>{escape(self._place.prefix + key)}</Key></Object>" for key in keys)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{listed}</Delete>'.encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = {"Content-MD5": digest, "Content-Type": "application/xml"}
        return self._wire.sign("delete", "POST", None, query={"delete": ""}, headers=headers, body=body, label=keys[0])

    def _send_delete(self, signed: Signed, keys: Sequence[str]) -> set[str]:
        """Those answered as done: none if the answer was lost, as a delete is never sent twice."""
        try:
            reply = self._wire.send(signed, self._observer)
        except Lost:
            return set()
        if reply.status >= 500:
            return set()
        if signed.method == "DELETE":
            self._good(reply, (200, 204, 404))
            return set(keys)
        deleted = children(_parsed(self._good(reply, (200,)), "a list"), "Deleted")
        return {item["Key"][len(self._place.prefix) :] for item in deleted} & set(keys)

    # -- prepared requests and grants --------------------------------------------------------------------------------

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Deferred[Version]:
        check_key(key)
        self.now()
        signed = self._sign_put(key, bytes(data), when, headers or default_headers(key))
        return Deferred(lambda: self._send_put(signed, when))

    def prepare_delete(self, keys: Iterable[str]) -> Deferred[set[str]]:
        self.now()
        signed = [(self._sign_delete(page), page) for page in pages(keys) if page]
        return Deferred(lambda: set().union(*(self._send_delete(request, page) for request, page in signed)))

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:
        check_key(key)
        if self._anonymous:
            raise Refused(f"only who has credentials for {self.url} can grant uploads")
        self.now()
        headers = _fields(default_headers(key))
        if sha1 is not None:
            headers |= {"x-amz-checksum-sha1": base64.b64encode(sha1).decode(), "If-None-Match": "*"}
        length = {"Content-Length": str(size)}  # who puts sends it anyway
        url = self._wire.presign(key, headers | length, int(expires.total_seconds()))
        return Grant(url, tuple(headers.items()), self._wire.clock.now() + expires)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """S3 answers a put when it is safe."""

    def now(self) -> datetime:
        if not self._wire.clock.known:
            self._ask(lambda: self._wire.sign("head", "HEAD", None))
        return self._wire.clock.now()

    def policy(self) -> str | None:
        """The bucket's policy, None if there is none."""
        reply = self._ask(lambda: self._wire.sign("get", "GET", None, query={"policy": ""}))
        if reply.status == 404 and reply.code != "NoSuchBucket":
            return None
        return self._good(reply, (200,)).body.decode()

    def set_policy(self, policy: str | None) -> None:
        """Replaces the bucket's policy, or removes it."""
        method = "DELETE" if policy is None else "PUT"
        body = (policy or "").encode()
        reply = self._ask(lambda: self._wire.sign("put", method, None, query={"policy": ""}, body=body))
        self._good(reply, (200, 204))

    @property
    def _anonymous(self) -> bool:
        return self._place.credentials is None

    def _dated(self, request: Callable[[], T]) -> T:
        """A request that is sent once, and once more if it was refused before the store's clock was known."""
        known = self._wire.clock.known
        try:
            return request()
        except Refused:
            if known or not self._wire.clock.known:
                raise
        return request()

    def _carry(self, key: str, carry: Callable[[], T], own: Callable[[], T]) -> T:
        """By obstore if it is an object; by a request of our own if it is none, or if the host's clock is wrong.

        Obstore signs by the host's clock, which may be set at any moment.
        """
        if object_name(key) is None or not self._may_sign_by_host():
            return own()
        try:
            return interruptible(carry)
        except Refused:
            if self._may_sign_by_host():
                raise
            return own()

    def _may_sign_by_host(self) -> bool:
        return self._anonymous or self._wire.clock.agrees_with_host(_TOLERANCE)

    def _ask(self, sign: Callable[[], Signed]) -> Reply:
        return self._wire.ask(sign, self._observer)

    def _good(self, reply: Reply, good: tuple[int, ...]) -> Reply:
        if reply.status not in good:
            raise reply.failure(self._anonymous)
        return reply


def _unknown(error: StoreError) -> Unknown:
    return Unknown(
        f"it is not known whether this was written: {error.message}", hint="read it again and look for your own bytes"
    )


def _open_again(url: str) -> S3Store:
    from stratus.stores.opening import open_store

    store = open_store(url)
    assert isinstance(store, S3Store)
    return store


def _fields(headers: Headers) -> dict[str, str]:
    fields = {"Content-Type": headers.content_type}
    if headers.cache_control:
        fields["Cache-Control"] = headers.cache_control
    return fields


def _date(reply: Reply) -> datetime:
    try:
        return parse_date(reply.headers["last-modified"])
    except (KeyError, ValueError):
        raise _no_server(reply, "an object") from None


def _parsed(reply: Reply, wanted: str) -> ET.Element:
    try:
        return ET.fromstring(reply.body)
    except ET.ParseError:
        raise _no_server(reply, wanted) from None


def _no_server(reply: Reply, wanted: str) -> StoreError:
    request = f"{reply.signed.method} {reply.signed.url.partition('?')[0]}"
    sent = reply.headers.get("content-type", "nothing")
    return StoreError(
        f"what answers {request} is no S3 server: it sends {sent} instead of {wanted}",
        hint="check the endpoint: a proxy or a login page may be in the way",
    )
