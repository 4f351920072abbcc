"""Flows: code that coordinates over a store without calling it.

A flow is a generator that yields requests and is sent their answers, so that the same code is driven by a real store,
by a simulated one, and by an explorer that decides what fails when. One yielded tuple is one parallel step. The
helpers below are what flows are written with: each yields one request and returns its typed answer, or raises what
the store raised. ``together`` runs several flows in step::

    def read_both(a: str, b: str) -> Flow[tuple[Blob, Blob]]:
        return (yield from both(get(a), get(b)))

    first, second = run(read_both("x", "y"), store)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from stratus.errors import NotFound, StratusError
from stratus.stores.contract import (
    ALWAYS,
    Blob,
    Condition,
    Created,
    Headers,
    Item,
    Prepared,
    Present,
    Stat,
    Store,
    Version,
)
from stratus.stores.parallel import WORKERS, threads

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
U = TypeVar("U")


class Get(msgspec.Struct, frozen=True):
    key: str


class PutOne(msgspec.Struct, frozen=True):
    key: str
    data: Buffer
    when: Condition = ALWAYS
    headers: Headers | None = None


class PutMany(msgspec.Struct, frozen=True):
    items: tuple[Item, ...]


class ListKeys(msgspec.Struct, frozen=True):
    prefix: str


class Delete(msgspec.Struct, frozen=True):
    keys: tuple[str, ...]


class Missing(msgspec.Struct, frozen=True):
    keys: tuple[str, ...]


class Copy(msgspec.Struct, frozen=True):
    source: str
    target: str
    match: Version


class PreparePut(msgspec.Struct, frozen=True):
    key: str
    data: Buffer
    when: Condition
    headers: Headers | None = None


class PrepareDelete(msgspec.Struct, frozen=True):
    keys: tuple[str, ...]


class Send(msgspec.Struct, frozen=True):
    prepared: Prepared[Any]


class Sync(msgspec.Struct, frozen=True):
    pass


class Now(msgspec.Struct, frozen=True):
    pass


class Sleep(msgspec.Struct, frozen=True):
    seconds: float


Request = (
    Get | PutOne | PutMany | ListKeys | Delete | Missing | Copy | PreparePut | PrepareDelete | Send | Sync | Now | Sleep
)


class Done(msgspec.Struct, frozen=True):
    """The answer of a request that went well."""

    value: Any


Answer = Done | StratusError
Flow = Generator[tuple[Request, ...], tuple[Answer, ...], T]


# -- one request each ------------------------------------------------------------------------------------------------


def get(key: str) -> Flow[Blob]:
    """Raises NotFound."""
    return cast(Blob, (yield from _ask(Get(key))))


def find(key: str) -> Flow[Blob | None]:
    """None where there is no such key."""
    try:
        return (yield from get(key))
    except NotFound:
        return None


def put(key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Flow[Version]:
    """Raises Exists, Changed, Unknown."""
    return cast(Version, (yield from _ask(PutOne(key, data, when, headers))))


def put_many(items: Iterable[Item]) -> Flow[list[Created | Present]]:
    return cast("list[Created | Present]", (yield from _ask(PutMany(tuple(items)))))


def list_keys(prefix: str) -> Flow[list[Stat]]:
    return cast("list[Stat]", (yield from _ask(ListKeys(prefix))))


def delete(keys: Iterable[str]) -> Flow[set[str]]:
    return cast("set[str]", (yield from _ask(Delete(tuple(keys)))))


def missing(keys: Iterable[str]) -> Flow[set[str]]:
    return cast("set[str]", (yield from _ask(Missing(tuple(keys)))))


def copy(source: str, target: str, match: Version) -> Flow[Version]:
    return cast(Version, (yield from _ask(Copy(source, target, match))))


def prepare_put(key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Flow[Prepared[Version]]:
    return cast("Prepared[Version]", (yield from _ask(PreparePut(key, data, when, headers))))


def prepare_delete(keys: Iterable[str]) -> Flow[Prepared[set[str]]]:
    return cast("Prepared[set[str]]", (yield from _ask(PrepareDelete(tuple(keys)))))


def send(prepared: Prepared[T]) -> Flow[T]:
    return cast(T, (yield from _ask(Send(prepared))))


def sync() -> Flow[None]:
    yield from _ask(Sync())


def now() -> Flow[datetime]:
    return cast(datetime, (yield from _ask(Now())))


def sleep(seconds: float) -> Flow[None]:
    yield from _ask(Sleep(seconds))


def _ask(request: Request) -> Flow[Any]:
    (answer,) = yield (request,)
    if isinstance(answer, StratusError):
        raise answer
    return answer.value


# -- several at once -------------------------------------------------------------------------------------------------


def both(first: Flow[T], second: Flow[U]) -> Flow[tuple[T, U]]:
    """Two flows of different types in step."""
    one, two = yield from together([first, second])
    return cast(T, one), cast(U, two)


def together(flows: Sequence[Flow[Any]]) -> Flow[list[Any]]:
    """All flows in step: their requests of one step are one step. Raises the first error once all have ended."""
    results: list[Any] = [None] * len(flows)
    errors: list[StratusError] = []
    waiting: dict[int, tuple[Request, ...]] = {}

    def advance(index: int, answers: tuple[Answer, ...] | None) -> None:
        flow = flows[index]
        try:
            waiting[index] = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            results[index] = stop.value
        except StratusError as error:
            errors.append(error)

    for index in range(len(flows)):
        advance(index, None)
    while waiting:
        step, waiting = waiting, {}
        answers = yield tuple(request for requests in step.values() for request in requests)
        start = 0
        for index, requests in step.items():
            advance(index, answers[start : start + len(requests)])
            start += len(requests)
    if errors:
        raise errors[0]
    return results


# -- the driver ------------------------------------------------------------------------------------------------------


def run(flow: Flow[T], store: Store) -> T:
    """Drives a flow with a real store; the requests of one step run in parallel threads."""
    try:
        requests = next(flow)
        while True:
            requests = flow.send(_answer_all(requests, store))
    except StopIteration as stop:
        return cast(T, stop.value)


def _answer_all(requests: tuple[Request, ...], store: Store) -> tuple[Answer, ...]:
    if len(requests) == 1:
        return (answer(requests[0], store),)
    with threads(min(WORKERS, len(requests))) as pool:
        return tuple(pool.map(lambda request: answer(request, store), requests))


def answer(request: Request, store: Store) -> Answer:
    """Makes one request; what the store raises is an answer too."""
    try:
        return Done(_MAKE[type(request)](request, store))
    except StratusError as error:
        return error


_MAKE: dict[type, Callable[[Any, Store], Any]] = {
    Get: lambda request, store: store.get(request.key),
    PutOne: lambda request, store: store.put(request.key, request.data, request.when, request.headers),
    PutMany: lambda request, store: list(store.put_many(request.items)),
    ListKeys: lambda request, store: list(store.list(request.prefix)),
    Delete: lambda request, store: store.delete(request.keys),
    Missing: lambda request, store: store.missing(request.keys),
    Copy: lambda request, store: store.copy(request.source, request.target, request.match),
    PreparePut: lambda request, store: store.prepare_put(request.key, request.data, request.when, request.headers),
    PrepareDelete: lambda request, store: store.prepare_delete(request.keys),
    Send: lambda request, store: request.prepared.send(),
    Sync: lambda request, store: store.sync(),
    Now: lambda request, store: store.now(),
    Sleep: lambda request, store: time.sleep(request.seconds),
}
