"""A store in memory, with the rules of the others: for tests, simulations and as the model of what a store does."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from typing_extensions import Buffer

from stratus.errors import Changed, Exists, NotFound, Refused, Unsuitable
from stratus.stores.contract import (
    ABSENT,
    ALWAYS,
    Absent,
    Blob,
    Condition,
    Created,
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
from stratus.stores.keys import check_key, collision
from stratus.stores.observing import PAGE, Watch, both, pages
from stratus.stores.prepared import Deferred

SIGNATURE_LIFE = timedelta(seconds=900)  # how late a prepared request may be sent, as in S3


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds for a key."""

    blob: Blob
    headers: Headers


@dataclass(slots=True)
class _Contents:
    held: dict[str, Held] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # the keys sorted; by code points is by bytes of UTF-8
    lock: threading.Lock = field(default_factory=threading.Lock)


class MemoryStore:
    """Keys, bytes and versions in a dictionary; thread-safe, nothing is ever retried or lost."""

    def __init__(self, name: str = "", clock: Callable[[], datetime] = utc_now) -> None:
        self._name = name
        self._clock = clock
        self._observer: Observer = ignore
        self._contents = _Contents()

    @property
    def url(self) -> str:
        return f"memory:{self._name}"

    def observed(self, observer: Observer) -> MemoryStore:
        """A view of the same contents."""
        view = MemoryStore(self._name, self._clock)
        view._contents = self._contents
        view._observer = both(self._observer, observer)
        return view

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        check_key(key)
        watch = Watch(self._observer, "get", key)
        held = self._contents.held.get(key)
        if held is None:
            watch.tell(404)
            raise NotFound(f"there is no {key} in {self.url}")
        if span is None:
            blob = held.blob
        else:
            blob = Blob(held.blob.data[span[0] : max(span)], held.blob.version, held.blob.modified)
        watch.tell(200 if span is None else 206, received=len(blob.data))
        return blob

    def headers(self, key: str) -> Headers:
        """The headers that were stored with a key."""
        return self._contents.held[key].headers

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        check_key(key)
        watch = Watch(self._observer, "put", key)
        stored = bytes(data)
        version = Version(hashlib.md5(stored, usedforsecurity=False).hexdigest())
        contents = self._contents
        with contents.lock:
            old = contents.held.get(key)
            holds = _holds(when, old)
            if holds:
                if old is None:
                    self._check_collision(key)
                    insort(contents.order, key)
                modified = self._clock().replace(microsecond=0)
                contents.held[key] = Held(Blob(stored, version, modified), headers or default_headers(key))
        watch.tell(200 if holds else 412, sent=len(stored))
        if not holds:
            raise (Exists if isinstance(when, Absent) else Changed)(f"{key} in {self.url} is not what it was taken for")
        return version

    def _check_collision(self, key: str) -> None:
        contents = self._contents
        at = bisect_left(contents.order, f"{key}/")
        if at < len(contents.order) and contents.order[at].startswith(f"{key}/"):
            raise collision(key)
        above = key.rpartition("/")[0]
        while above:
            if above in contents.held:
                raise collision(key)
            above = above.rpartition("/")[0]

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:
        """In the order of the keys' bytes; each page of keys is one consistent view."""
        contents = self._contents
        while True:
            watch = Watch(self._observer, "list", prefix)
            with contents.lock:
                start = max(bisect_left(contents.order, prefix), bisect_right(contents.order, after))
                keys = contents.order[start : start + PAGE]
                held = [contents.held[key] for key in keys]
            found = [
                Stat(key, len(this.blob.data), this.blob.version, this.blob.modified)
                for key, this in zip(keys, held, strict=True)
                if key.startswith(prefix)
            ]
            watch.tell(200)
            yield from found
            if len(found) < PAGE:
                return
            after = found[-1].key

    def delete(self, keys: Iterable[str]) -> set[str]:
        done: set[str] = set()
        for page in pages(keys):
            if not page:
                break
            watch = Watch(self._observer, "delete", page[0])
            with self._contents.lock:
                for key in page:
                    check_key(key)
                    if self._contents.held.pop(key, None) is not None:
                        del self._contents.order[bisect_left(self._contents.order, key)]
                    done.add(key)
            watch.tell(200)
        return done

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Deferred[Version]:
        check_key(key)
        stored, signed = bytes(data), self._clock()

        def send() -> Version:
            self._check_signature(signed)
            return self.put(key, stored, when, headers)

        return Deferred(send)

    def prepare_delete(self, keys: Iterable[str]) -> Deferred[set[str]]:
        wanted, signed = tuple(keys), self._clock()

        def send() -> set[str]:
            self._check_signature(signed)
            return self.delete(wanted)

        return Deferred(send)

    def _check_signature(self, signed: datetime) -> None:
        if self._clock() - signed > SIGNATURE_LIFE:
            raise Refused("the request was signed too long ago", hint="prepare it again")

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Blob | None]]:
        for key in keys:
            try:
                yield key, self.get(key)
            except NotFound:
                yield key, None

    def put_many(self, items: Iterable[Item]) -> Iterator[Created | Present]:
        for item in items:
            try:
                self.put(item.key, item.data, ABSENT)
            except Exists:
                yield Present(item.key)
            else:
                yield Created(item.key)

    def missing(self, keys: Iterable[str]) -> set[str]:
        absent = set()
        for key in keys:
            check_key(key)
            there = key in self._contents.held
            Watch(self._observer, "head", key).tell(200 if there else 404)
            if not there:
                absent.add(key)
        return absent

    def copy(self, source: str, target: str, match: Version) -> Version:
        check_key(source)
        check_key(target)
        held = self._contents.held.get(source)
        if held is None:
            Watch(self._observer, "put", target).tell(404)
            raise NotFound(f"there is no {source} in {self.url}")
        if held.blob.version != match:
            Watch(self._observer, "put", target).tell(412)
            raise Changed(f"{source} in {self.url} is not what it was taken for")
        return self.put(target, held.blob.data)

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:  # noqa: ARG002
        raise Unsuitable(
            f"{self.url} cannot grant uploads: nothing serves it",
            hint="use an S3 bucket, or let the API take the bytes",
        )

    def sync(self) -> None:
        """Memory does not survive a power cut anyway."""

    def now(self) -> datetime:
        return self._clock()


def _holds(when: Condition, old: Held | None) -> bool:
    match when:
        case Absent():
            return old is None
        case Match(version):
            return old is not None and old.blob.version == version
        case _:
            return True
