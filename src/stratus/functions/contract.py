"""What a function is: an event in, a reply out, within a time and a memory budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import Logger

import msgspec

from stratus.costs.meter import Meter
from stratus.repository.recent import Recent
from stratus.stores.contract import Store
from stratus.trust.identity import Identity
from stratus.trust.secrets import Secrets


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as it was proven a moment ago: endpoints authenticate. ``host`` is from where, for people."""

    identity: Identity
    host: str = ""

    @property
    def writer(self) -> str:
        return self.identity.writer


class Event(msgspec.Struct, frozen=True):
    """What a function is asked for.

    Attributes:
        kind: which function, and what of it: ``lease.acquire``, ``submit``, ``commit``, ``tend``, …
        id: of this event; the same for repeats.
        parameters: plain text values, as a URL has them.
        body: JSON, or the bytes of a change set.
        attempt: 1 for the first.
        caller: None for an event of the system itself.
    """

    kind: str
    id: str
    repository: str
    parameters: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    attempt: int = 1
    caller: Caller | None = None


class Reply(msgspec.Struct, frozen=True):
    """What comes of an event.

    Attributes:
        status: as of HTTP.
        body: JSON; an error is a problem document of RFC 9457.
        headers: ``Retry-After`` and the like.
        follow_ups: events that shall run next. What they do is durable in the store already, or does not matter.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    follow_ups: tuple[Event, ...] = ()


class Context(msgspec.Struct, frozen=True):
    """What a function has to work with.

    Attributes:
        stores: the store of a repository. Raises NoSuchRepository.
        deadline: by ``time.monotonic``; work that may not fit is left to a follow-up.
        memory: bytes that the function may use.
        process: the mark that this process leaves in claims and the lock; ``is_gone`` knows those that have ended.
        meter: counts the requests of this invocation, if ``stores`` gives stores that it observes.
        recent: catalogs that are kept between the invocations of one process, by repository.
    """

    stores: Callable[[str], Store]
    secrets: Secrets
    deadline: float
    memory: int
    log: Logger
    meter: Meter
    process: str = ""
    is_gone: Callable[[str], bool] = lambda _: False
    recent: Callable[[str], Recent] = lambda _: Recent()

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


Handler = Callable[[Event, Context], Reply]
