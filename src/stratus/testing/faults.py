"""A store that fails where a plan says so, to see what becomes of those who use it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import TypeVar

from typing_extensions import Buffer

from stratus.errors import Exists, NotFound, StoreError, StratusError, Unknown
from stratus.stores.contract import (
    ABSENT,
    ALWAYS,
    Always,
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
    Store,
    Verb,
    Version,
)
from stratus.stores.prepared import Deferred

T = TypeVar("T")


class Killed(BaseException):
    """The process died here; no ``except Exception`` survives it."""


class Fault(Enum):
    """What becomes of a request.

    No answer is Unknown for a conditional put, an empty set for a delete, StoreError for the rest.
    """

    PASS = auto()
    FAIL = auto()  # it is answered with an error and did nothing
    VANISH = auto()  # it did nothing, and no answer comes
    LOSE = auto()  # it was done, and no answer comes
    DIE = auto()  # the process dies before it is sent
    DIE_AFTER = auto()  # the process dies after it was done


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the how-manyth (from 0), what it does and to which key; ``copy`` puts its target."""

    index: int
    verb: Verb
    key: str


Plan = Callable[[Call], Fault]


@dataclass(slots=True)
class _Life:
    """One process: its requests are counted, and once it is dead none is made."""

    plan: Plan
    count: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)
    dead: bool = False


class FaultyStore:
    """A store with faults: wrap the same inner store anew for each process that is to live.

    ``get_many``, ``put_many`` and ``missing`` make one request after the other; preparing is none, sending is.
    """

    def __init__(self, inner: Store, plan: Plan) -> None:
        self._inner = inner
        self._life = _Life(plan)

    @property
    def url(self) -> str:
        return self._inner.url

    def observed(self, observer: Observer) -> FaultyStore:
        """A view within the same life."""
        view = FaultyStore(self._inner.observed(observer), self._life.plan)
        view._life = self._life
        return view

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        return self._call("get", key, lambda: self._inner.get(key, span))

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        return self._call("put", key, lambda: self._inner.put(key, data, when, headers), _lost_put(key, when))

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:
        yield from self._call("list", prefix, lambda: tuple(self._inner.list(prefix, after)))

    def delete(self, keys: Iterable[str]) -> set[str]:
        wanted = tuple(keys)
        return self._delete(wanted, lambda: self._inner.delete(wanted))

    def _delete(self, keys: tuple[str, ...], action: Callable[[], set[str]]) -> set[str]:
        try:
            return self._call("delete", keys[0] if keys else "", action, _NoAnswer("a delete"))
        except _NoAnswer:
            return set()

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Prepared[Version]:
        prepared = self._inner.prepare_put(key, data, when, headers)
        return Deferred(lambda: self._call("put", key, prepared.send, _lost_put(key, when)), prepared.close)

    def prepare_delete(self, keys: Iterable[str]) -> Prepared[set[str]]:
        wanted = tuple(keys)
        prepared = self._inner.prepare_delete(wanted)
        return Deferred(lambda: self._delete(wanted, prepared.send), prepared.close)

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
        return set().union(*(self._call("head", key, partial(self._inner.missing, [key])) for key in keys))

    def copy(self, source: str, target: str, match: Version) -> Version:
        return self._call("put", target, lambda: self._inner.copy(source, target, match))

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:
        return self._inner.presign_put(key, sha1, size, expires)

    def sync(self) -> None:
        self._inner.sync()

    def now(self) -> datetime:
        return self._inner.now()

    def _call(self, verb: Verb, key: str, action: Callable[[], T], lost: StoreError | None = None) -> T:
        life = self._life
        with life.lock:
            if life.dead:
                raise Killed
            fault = life.plan(Call(next(life.count), verb, key))
            life.dead = fault in (Fault.DIE, Fault.DIE_AFTER)
        lost = lost or StoreError(f"no answer to {verb} {key}")
        match fault:
            case Fault.FAIL:
                raise StoreError(f"the store failed at {verb} {key}")
            case Fault.VANISH:
                raise lost
            case Fault.DIE:
                raise Killed
        try:
            result = action()
        except StratusError:
            if fault is Fault.PASS:
                raise
        if fault is Fault.DIE_AFTER:
            raise Killed
        if fault is Fault.LOSE:
            raise lost
        return result


class _NoAnswer(StoreError):
    """Tells an answer that was lost from an error of the store."""


def _lost_put(key: str, when: Condition) -> StoreError | None:
    return None if isinstance(when, Always) else Unknown(f"no answer to put {key}")
