"""A simulated cloud: flows over a store in memory whose requests take time, though nobody waits.

A step of a flow takes as long as its slowest request, a flow as long as its steps one after the other; ``run_all``
runs many flows beside each other. Now and then the store answers 503: by chance, and where more is asked in a second
than it allows. What does no harm twice is asked again then, as the S3 store does::

    cloud = Cloud(failing=0.01, seed=7)
    new_repository(cloud.store)
    ran = run(commit(committer, seen), cloud)
    assert len(ran.steps) <= 9
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar, cast

from stratus.errors import Exists, StoreError, StratusError, Unknown
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Always, Created, Exchange, Item, Present, Verb
from stratus.stores.flows import Answer, Done, Flow, Request
from stratus.stores.memory import MemoryStore, utc_now
from stratus.stores.observing import pages
from stratus.stores.parallel import WORKERS
from stratus.stores.prepared import Deferred
from stratus.stores.retries import attempts, delay
from stratus.testing.explorer import SimulatedClock

T = TypeVar("T")

LATENCY = 0.030  # seconds from a request to its answer
_REFUSED = 503
_READS = frozenset({"get", "head", "list"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests that are answered in a second; by default what S3 promises for one prefix."""

    reads: int = 5500
    writes: int = 3500


@dataclass(frozen=True, slots=True)
class Step:
    """Requests that were made in parallel, also those that were refused."""

    requests: tuple[Exchange, ...]
    seconds: float

    def has(self, verb: Verb, key: str) -> bool:
        return any((one.verb, one.key) == (verb, key) for one in self.requests)


@dataclass(slots=True)
class Ran(Generic[T]):
    """A flow that ended: with a result, or with an error.

    Attributes:
        begun: by the cloud's clock, as is ``ended``.
        steps: those that asked the store for something.
    """

    begun: datetime
    ended: datetime
    result: T | None = None
    error: StratusError | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun).total_seconds()

    @property
    def requests(self) -> int:
        return sum(len(step.requests) for step in self.steps)

    def value(self) -> T:
        """The result. Raises what the flow raised."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)

    def until(self, verb: Verb, key: str) -> int:
        """How many steps it took until such a request was answered for the first time."""
        return next(number for number, step in enumerate(self.steps, 1) if step.has(verb, key))


class Cloud:
    """A store, its clock, and what its network is like."""

    def __init__(
        self,
        latency: float = LATENCY,
        limits: Limits = Limits(),
        failing: float = 0.0,
        parallel: int = WORKERS,
        seed: int = 0,
        computing: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``latency`` in seconds; ``failing`` is the share of requests that are answered 503.

        ``parallel`` is how many requests of one step are under way at once. ``computing`` is a clock of this process,
        in seconds: what a flow takes by it between two steps is added to the cloud's; by default, nothing.
        """
        self.clock = SimulatedClock(utc_now())
        self.store = MemoryStore("cloud", self.clock)
        self.computing = computing
        self.refused = 0
        self._latency, self._limits, self._failing, self._parallel = latency, limits, failing, parallel
        self._chance = random.Random(seed)
        self._asked: Counter[tuple[bool, int]] = Counter()  # by whether it reads, and the second
        self._watched = self.store.observed(self._note)
        self._exchanges: list[Exchange] = []
        self._lanes: list[float] = []  # when each is free again, in seconds since the step began
        self._longest = 0.0

    def make(self, requests: Sequence[Request]) -> tuple[tuple[Answer, ...], Step]:
        """Makes the requests of a step at the clock's time, and says how long they took."""
        self._exchanges, self._lanes, self._longest = [], [0.0] * self._parallel, 0.0
        answers = tuple(self._answer(request) for request in requests)
        return answers, Step(tuple(self._exchanges), self._longest)

    def _note(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)

    def _answer(self, request: Request) -> Answer:
        try:
            return Done(self._value(request))
        except StratusError as error:
            return error

    def _value(self, request: Request) -> Any:
        store = self._watched
        match request:
            case flows.PutOne(key, data, when, headers) if not isinstance(when, Always):
                return self._once("put", key, lambda: store.put(key, data, when, headers), Unknown("no answer"))
            case flows.PutMany(items):
                return [self._create(item) for item in items]
            case flows.Missing(keys):
                return {key for key in keys if self._again("head", key, partial(store.missing, [key]))}
            case flows.Delete(keys):
                return set().union(*(self._delete(page, partial(store.delete, page)) for page in pages(keys)))
            case flows.PreparePut(key, data, when, headers):
                put = store.prepare_put(key, data, when, headers)
                return Deferred(lambda: self._once("put", key, put.send, Unknown("no answer")), put.close)
            case flows.PrepareDelete(keys):
                delete = store.prepare_delete(keys)
                return Deferred(lambda: self._delete(keys, delete.send), delete.close)
            case flows.Get(key) | flows.PutOne(key) | flows.ListKeys(key) | flows.Copy(_, key):
                answer = self._again(_VERBS[type(request)], key, lambda: flows.answer(request, store))
                if isinstance(answer, StratusError):
                    raise answer
                return answer.value
            case flows.Send(prepared):
                return prepared.send()
            case flows.Sleep(seconds):
                self._longest = max(self._longest, seconds)
                return None
        return self.clock() if isinstance(request, flows.Now) else None

    def _create(self, item: Item) -> Created | Present:
        try:
            self._again("put", item.key, lambda: self._watched.put(item.key, item.data, ABSENT))
        except Exists:
            return Present(item.key)
        return Created(item.key)

    def _delete(self, keys: Sequence[str], action: Callable[[], set[str]]) -> set[str]:
        return self._once("delete", keys[0], action, set()) if keys else set()

    def _once(self, verb: Verb, key: str, action: Callable[[], T], lost: T | StratusError) -> T:
        """A request that is never made twice; ``lost`` is what comes of one that is refused."""
        lane = self._lane()
        before = len(self._exchanges)
        try:
            if not self._refuses(verb, key, lane):
                return action()
            if isinstance(lost, StratusError):
                raise lost
            return lost
        finally:
            self._took(lane, max(len(self._exchanges) - before, 1))

    def _again(self, verb: Verb, key: str, action: Callable[[], T]) -> T:
        """A request that is made again while it is refused."""
        lane = self._lane()
        for attempt in range(attempts(_REFUSED)):
            before = len(self._exchanges)
            if not self._refuses(verb, key, lane):
                try:
                    return action()
                finally:
                    self._took(lane, max(len(self._exchanges) - before, 1))  # the pages of a listing are in sequence
            self._took(lane, 1)
            self._lanes[lane] += delay(attempt) * self._chance.uniform(0.5, 1)
        raise StoreError(f"{verb} {key} was answered {_REFUSED}")

    def _lane(self) -> int:
        return min(range(len(self._lanes)), key=self._lanes.__getitem__)

    def _took(self, lane: int, requests: int) -> None:
        self._lanes[lane] += requests * self._latency
        self._longest = max(self._longest, self._lanes[lane])

    def _refuses(self, verb: Verb, key: str, lane: int) -> bool:
        """Whether a request that comes now is answered 503."""
        reads = verb in _READS
        second = reads, int(self.clock.time.timestamp() + self._lanes[lane])
        self._asked[second] += 1
        over = self._asked[second] > (self._limits.reads if reads else self._limits.writes)
        if over or self._chance.random() < self._failing:
            self.refused += 1
            self._exchanges.append(Exchange(verb, key, _REFUSED, 0, 0, self._latency))
            return True
        return False


_VERBS: dict[type[Request], Verb] = {flows.Get: "get", flows.PutOne: "put", flows.ListKeys: "list", flows.Copy: "put"}


def run(flow: Flow[T], cloud: Cloud) -> Ran[T]:
    """Drives one flow."""
    (ran,) = run_all([flow], cloud)
    return ran


def run_all(begin: Iterable[Flow[Any]], cloud: Cloud) -> list[Ran[Any]]:
    """Drives flows that begin at the same moment; what a step asks for takes effect when it begins."""
    begun = cloud.clock.time
    ran: list[Ran[Any]] = []
    due: list[tuple[datetime, int, Flow[Any], Ran[Any], tuple[Answer, ...] | None]] = []
    order = itertools.count()
    for flow in begin:
        ran.append(Ran(begun, begun))
        due.append((begun, next(order), flow, ran[-1], None))
    while due:
        now, _, flow, one, answers = heapq.heappop(due)
        cloud.clock.time = one.ended = now
        before = cloud.computing()
        try:
            requests = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            one.result = stop.value
        except StratusError as error:
            one.error = error
        else:
            computed = cloud.computing() - before
            made, step = cloud.make(requests)
            if step.requests:
                one.steps.append(step)
            heapq.heappush(due, (now + timedelta(seconds=step.seconds + computed), next(order), flow, one, made))
    return ran
