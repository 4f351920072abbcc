"""The ``Store`` contract: what every place for objects promises.

Keys are ``/``-separated UTF-8 text: components of 1 to 255 bytes other than ``.`` and ``..``, at most 1,024 bytes in
all (the store's own prefix included), no control characters, no backslash; UsageError is raised for others. No key is
a path prefix of another key. GET, PUT and DELETE of one key are linearisable; a listing holds every key whose put
ended before the listing began. Versions change with the bytes only (they may be ETags), so a value under
compare-and-swap carries a nonce. DELETE is never conditional: what others may rewrite is never deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NewType, Protocol, TypeVar, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Version = NewType("Version", str)  # an ETag without quotes, or what a store has in its place


class Always(msgspec.Struct, frozen=True):
    """Put whatever is there."""


class Absent(msgspec.Struct, frozen=True):
    """Put only if there is no such key; else Exists is raised."""


class Match(msgspec.Struct, frozen=True):
    """Put only over this version; else Changed is raised."""

    version: Version


Condition = Always | Absent | Match
ALWAYS = Always()
ABSENT = Absent()


class Headers(msgspec.Struct, frozen=True):
    """Response headers that are stored with an object."""

    content_type: str = "application/octet-stream"
    cache_control: str = ""


PRIVATE_HEADERS = Headers("application/json", "no-store")
POINTER_HEADERS = Headers("application/x-cvmfs", "max-age=61")
OBJECT_HEADERS = Headers("application/octet-stream", "max-age=259200, immutable")


def default_headers(key: str) -> Headers:
    """What a key is stored with unless somebody says otherwise: pointers are short-lived, objects immutable."""
    if "/data/" in f"/{key}":
        return OBJECT_HEADERS
    if key.startswith(".stratus/"):
        return PRIVATE_HEADERS
    return POINTER_HEADERS if key.rpartition("/")[2].startswith(".cvmfs") else Headers("application/json", "max-age=61")


class Blob(msgspec.Struct, frozen=True):
    """What a get gives: the bytes, their version, and when the store took them (UTC, grain of a second)."""

    data: bytes
    version: Version
    modified: datetime


class Stat(msgspec.Struct, frozen=True):
    """What a listing gives of a key."""

    key: str
    size: int
    version: Version
    modified: datetime


class Item(msgspec.Struct, frozen=True):
    """One of many puts; each is made with the condition Absent."""

    key: str
    data: Buffer


class Created(msgspec.Struct, frozen=True):
    """The put landed."""

    key: str


class Present(msgspec.Struct, frozen=True):
    """The key was there already."""

    key: str


class Grant(msgspec.Struct, frozen=True):
    """Permission for a PUT without credentials: send the body to ``url`` with its length and just these headers."""

    url: str
    headers: tuple[tuple[str, str], ...]
    expires: datetime


class Prepared(Protocol[T_co]):
    """A request that was signed already: send it once, or drop it."""

    def send(self) -> T_co: ...
    def close(self) -> None: ...


Verb = Literal["get", "put", "list", "head", "delete"]


class Exchange(msgspec.Struct, frozen=True):
    """One request that a store made and the answer's status (0: none came). Bytes are bodies only."""

    verb: Verb
    key: str
    status: int
    sent: int
    received: int
    seconds: float


Observer = Callable[[Exchange], None]  # called from any thread


def ignore(_: Exchange) -> None:
    """The observer of those who do not count."""


class Store(Protocol):
    """A place for objects; thread-safe and synchronous, concurrency lives in the ``*_many`` forms.

    Every method may raise StoreError (cannot be reached, kept failing) and Refused. Reads and unconditional puts are
    retried inside; conditional puts and deletes are not.
    """

    @property
    def url(self) -> str:
        """Where it is, without secrets; what ``open_store`` took."""
        ...

    def observed(self, observer: Observer) -> Store:
        """The same store, telling ``observer`` each request (also list pages, retries, parts)."""
        ...

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        """The object, or its bytes from ``span[0]`` up to, not including, ``span[1]``. Raises NotFound."""
        ...

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        """Stores the bytes. Raises Exists (Absent), Changed (Match), Unknown (conditional, the answer was lost)."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:
        """All keys that begin with these characters; ``after`` takes only a key that this store returned."""
        ...

    def delete(self, keys: Iterable[str]) -> set[str]:
        """Deletes; gives back those answered as done (a key that is not there counts)."""
        ...

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Prepared[Version]:
        """Signs a put now, dated by the store's clock, to be sent later."""
        ...

    def prepare_delete(self, keys: Iterable[str]) -> Prepared[set[str]]:
        """Signs a delete now, dated by the store's clock, to be sent later."""
        ...

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Blob | None]]:
        """Every key once, in any order; None where there is no such key."""
        ...

    def put_many(self, items: Iterable[Item]) -> Iterator[Created | Present]:
        """Each item with the condition Absent, one request each, in any order; takes a bounded number ahead."""
        ...

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those that are not there."""
        ...

    def copy(self, source: str, target: str, match: Version) -> Version:
        """Copies inside the store. Raises Changed if ``source`` has another version, NotFound if it is not there."""
        ...

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:
        """A grant for one body of ``size`` bytes: with a SHA-1 only for that one, and only if the key is absent.

        Not every store looks at the SHA-1 (``probe`` finds out). Raises Unsuitable where there are no grants.
        """
        ...

    def sync(self) -> None:
        """All that was put survives a power cut from now on."""
        ...

    def now(self) -> datetime:
        """The store's clock, UTC, right to 2 s."""
        ...


@runtime_checkable
class Shared(Store, Protocol):
    """A store that other processes of this machine can use too."""

    def elsewhere(self) -> Callable[[], Store]:
        """What opens the same store there, without its observers; can be pickled, and may hold secrets."""
        ...

    def tell(self, exchange: Exchange) -> None:
        """Tells the observers of a request that another process made for this one."""
        ...
