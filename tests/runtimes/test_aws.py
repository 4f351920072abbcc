"""The real handlers in the real runtime client, in AWS's own emulator of Lambda, on a bucket; queues are played."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.repositories import FQRN, content, keys, new_repository, problems
from tests.runtimes.emulator import Queue, Slot, as_event, playing, slot
from tests.runtimes.publishing import Writer, expire_lock

LAYOUT = Layout(FQRN)
API, EVENTS = "stratus.runtimes.aws.api.handler", "stratus.runtimes.aws.events.handler"
NAME = "https://publish.example.org"


@dataclass(frozen=True, slots=True)
class World:
    """A bucket with a repository, a queue, and an environment of functions for them."""

    store: Store
    queue: Queue
    environment: dict[str, str]

    def slot(self, handler: str, **more: Any) -> contextlib.AbstractContextManager[Slot]:
        return slot(handler, self.environment, **more)


@pytest.fixture
def world(s3_server: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory, prefix = tmp_path_factory.mktemp("secrets"), os.urandom(6).hex()
    keys().save(directory)
    with playing() as queue:
        environment = {
            **s3_server.environment(),
            "STRATUS_STORE": f"s3://{BUCKET}/{prefix}",
            "STRATUS_REPOSITORIES": FQRN,
            "STRATUS_SECRETS": f"file://{directory}",
            "STRATUS_URL": NAME,
            "STRATUS_QUEUES": " ".join(f"{kind}={queue.url}" for kind in ("commit", "submit", "notify")),
        }
        yield World(new_repository(s3_server.store(BUCKET, prefix)), queue, environment)


def test_the_whole_way_of_a_change_set(world: World) -> None:
    with world.slot(API) as api, world.slot(EVENTS) as events:
        writer = Writer.new(world.store, api.ask, NAME)
        change_set = writer.submit("/sw", {"a": b"1"})
        assert [json.loads(message)["kind"] for message in world.queue.messages] == ["commit"]
        assert world.queue.deliver(events) == []
        receipt = writer.receipt(change_set)
        assert (receipt.state, receipt.revision, receipt.invocations) == ("published", 2, 1)
        assert [json.loads(message)["kind"] for message in world.queue.messages] == ["notify"]
        assert world.queue.deliver(events) == []
        assert events.invoke({"kind": "tend"}) == {}  # the schedule
    assert content(world.store) == {"sw": None, "sw/a": b"1"}
    assert problems(world.store, data=True) == []


def test_who_does_not_sign_is_refused_and_problems_are_text(world: World) -> None:
    with world.slot(API) as api:
        target = f"{NAME}/api/v1/repositories/{FQRN}"
        status, answer = api.ask("POST", f"{target}/leases", {}, b"{}")
        assert (status, json.loads(answer)["status"]) == (401, 401)
        found = api.invoke(as_event("GET", target, {}, b""))
        assert found["statusCode"] == 200
        assert found["headers"]["content-type"] == "application/json"
        assert json.loads(found["body"])["repository"] == FQRN
        assert api.ask("GET", f"{NAME}/elsewhere", {}, b"")[0] == 404


def test_a_function_that_takes_too_long_is_ended_and_the_next_invocation_has_a_fresh_instance() -> None:
    with slot("tests.runtimes.slow_handlers.sleep", {}, seconds=3) as slow:
        left = slow.invoke({"seconds": 0.5})["left"]
        assert 0 < left < 1.5
        begun = time.monotonic()
        with pytest.raises(ConnectionError, match="timed out after 3"):
            slow.invoke({"seconds": 60})
        assert time.monotonic() - begun < 15
        assert slow.invoke({"seconds": 0})["left"] > left


def test_a_batch_says_what_was_not_handled(world: World) -> None:
    s3 = json.dumps({"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": f".stratus/{FQRN}/queue/x"}}}]})
    elsewhere = json.dumps({"kind": "commit", "repository": "other.example.org"})
    first = json.dumps({"Event": "s3:TestEvent"})
    with world.slot(EVENTS) as events:
        assert world.queue.deliver(events, s3, "nonsense", first, elsewhere, s3) == ["nonsense", elsewhere]


def test_what_fails_outside_of_a_queue_fails_as_a_whole(world: World) -> None:
    with world.slot(EVENTS) as events:
        assert events.invoke({"kind": "commit", "repository": "other.example.org"})["errorType"] == "Failed"
        assert events.invoke({"kind": "lease.acquire"})["errorType"] == "UsageError"
        assert events.invoke({"source": "aws.s3", "detail": {"object": {"key": f".stratus/{FQRN}/queue/x"}}}) == {}


def test_events_may_come_twice_late_and_in_any_order(world: World) -> None:
    with world.slot(API) as api, world.slot(EVENTS) as one, world.slot(EVENTS) as two:
        writer = Writer.new(world.store, api.ask, NAME)
        ids = [writer.submit(f"/{number}", {"a": b"1"}) for number in range(4)]
        heard = [*reversed(world.queue.messages), *world.queue.messages]
        with ThreadPoolExecutor() as threads:
            failed = threads.map(lambda to: world.queue.deliver(to, *heard), (one, two))
            assert list(failed) == [[], []]
        assert world.queue.deliver(one, *heard) == []
        receipts = [writer.receipt(change_set, 5) for change_set in ids]
    assert [receipt.state for receipt in receipts] == ["published"] * 4
    assert len(content(world.store)) == 8


def test_a_queue_that_delivers_nothing_only_costs_time(world: World) -> None:
    with world.slot(API) as api, world.slot(EVENTS) as events:
        writer = Writer.new(world.store, api.ask, NAME)
        change_set = writer.submit("/sw", {"a": b"1"})
        world.queue.messages.clear()
        assert events.invoke({"kind": "commit"}) == {}  # the schedule, a while later
        assert writer.receipt(change_set, 5).state == "published"


@pytest.mark.parametrize("seed", [11, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120))])
def test_every_change_set_ends_in_one_receipt_whatever_is_killed(world: World, seed: int) -> None:
    chance = Random(seed)
    done = threading.Event()
    names = [f"w{number}" for number in range(4)]
    with contextlib.ExitStack() as stack:
        apis = [stack.enter_context(world.slot(API)) for _ in range(2)]
        events = stack.enter_context(world.slot(EVENTS))

        def publish(number: int) -> str:
            writer = Writer.new(world.store, apis[number % 2].ask, NAME, names[number])
            return writer.submit(f"/{number}", {"a": b"%d" % number}, times=60)

        def harm() -> None:
            for victim in iter(lambda: chance.choice([*apis, events]), None):
                victim.kill()
                if done.wait(chance.uniform(0.2, 0.6)):
                    break

        def deliver() -> None:
            """Again and again until it was handled, now and then twice."""
            while not (done.is_set() and not world.queue.messages):
                batch = list(world.queue.messages)
                with contextlib.suppress(ConnectionError):
                    left = world.queue.deliver(events, *batch) if batch else []
                    world.queue.messages[: len(batch)] = left
                expire_lock(world.store)
                time.sleep(0.1)

        with ThreadPoolExecutor(8) as threads:
            harming, delivering = threads.submit(harm), threads.submit(deliver)
            try:
                ids = list(threads.map(publish, range(4)))
            finally:
                done.set()
            harming.result()
            delivering.result()
        for _ in range(3):  # the schedule; the first one may find the instance dead
            with contextlib.suppress(ConnectionError):
                events.invoke({"kind": "commit"})
        reader = Writer.new(world.store, apis[0].ask, NAME)
        receipts = [reader.receipt(change_set) for change_set in ids]
    assert [receipt.state for receipt in receipts] == ["published"] * 4
    assert content(world.store) == {
        **{str(number): None for number in range(4)},
        **{f"{number}/a": b"%d" % number for number in range(4)},
    }
    assert problems(world.store, data=True) == []
