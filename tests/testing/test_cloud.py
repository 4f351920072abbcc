from __future__ import annotations

from datetime import timedelta

import pytest

from stratus.errors import NotFound, StoreError, Unknown
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Item, Match, Version
from stratus.stores.flows import Flow
from stratus.testing.cloud import Cloud, Limits, run, run_all


def read_both() -> Flow[tuple[bytes, bytes]]:
    first, second = yield from flows.both(flows.get("a"), flows.get("b"))
    return first.data, second.data


def test_a_flow_takes_as_long_as_its_steps_and_a_step_as_its_slowest_request() -> None:
    cloud = Cloud(latency=0.03)

    def flow() -> Flow[tuple[bytes, bytes]]:
        yield from flows.together([flows.put("a", b"1"), flows.put("b", b"2")])
        yield from flows.sleep(1.5)
        return (yield from read_both())

    before = cloud.clock()
    ran = run(flow(), cloud)
    assert ran.value() == (b"1", b"2")
    assert (len(ran.steps), ran.requests) == (2, 4)
    assert ran.seconds == pytest.approx(0.03 + 1.5 + 0.03)
    assert cloud.clock() - before == timedelta(seconds=ran.seconds)
    assert (ran.until("put", "b"), ran.until("get", "b")) == (1, 2)


def test_only_so_many_requests_of_a_step_are_under_way_at_once() -> None:
    items = [Item(f"x/data/{number:02}", b"1") for number in range(20)]
    assert run(flows.put_many(items), Cloud(latency=1, parallel=20)).seconds == 1
    assert run(flows.put_many(items), Cloud(latency=1, parallel=8)).seconds == 3


def test_the_pages_of_a_listing_come_one_after_the_other() -> None:
    cloud = Cloud(latency=1)
    list(cloud.store.put_many(Item(f"x/{number:04}", b"1") for number in range(1500)))
    ran = run(flows.list_keys("x/"), cloud)
    assert (len(ran.value()), ran.requests, ran.seconds) == (1500, 2, 2)


def test_flows_run_beside_each_other_in_simulated_time() -> None:
    cloud = Cloud(latency=1)

    def wait_and_put(seconds: float, name: bytes) -> Flow[None]:
        yield from flows.sleep(seconds)
        yield from flows.put("a", name)

    late, early = run_all([wait_and_put(5, b"late"), wait_and_put(3, b"early")], cloud)
    assert (late.seconds, early.seconds) == (6, 4)
    assert cloud.store.get("a").data == b"late"


def test_what_the_store_says_is_raised_in_the_flow_and_kept() -> None:
    ran = run(read_both(), Cloud())
    with pytest.raises(NotFound):
        ran.value()
    assert isinstance(ran.error, NotFound)


def test_a_refused_request_is_made_again_unless_that_may_do_harm() -> None:
    cloud = Cloud(failing=1.0)
    version = cloud.store.put("a", b"1")
    assert isinstance(run(flows.put("a", b"2", Match(version)), cloud).error, Unknown)
    assert isinstance(run(flows.put("b", b"2", ABSENT), cloud).error, Unknown)
    assert run(flows.delete(["a"]), cloud).value() == set()
    read = run(flows.get("a"), cloud)
    assert isinstance(read.error, StoreError)
    assert read.requests > 3
    assert read.seconds > 1
    assert cloud.store.get("a").data == b"1"


def test_a_prepared_request_is_made_when_it_is_sent() -> None:
    cloud = Cloud(latency=1)

    def replace(version: Version) -> Flow[None]:
        prepared = yield from flows.prepare_put("a", b"2", Match(version))
        yield from flows.send(prepared)
        yield from flows.send((yield from flows.prepare_delete(["b"])))

    ran = run(replace(cloud.store.put("a", b"1")), cloud)
    ran.value()
    assert cloud.store.get("a").data == b"2"
    assert [[one.verb for one in step.requests] for step in ran.steps] == [["put"], ["delete"]]
    assert ran.seconds == 2


def test_more_than_is_allowed_in_a_second_is_refused_and_takes_longer() -> None:
    items = [Item(f"x/data/{number:02}", b"1") for number in range(60)]
    free, limited = Cloud(parallel=60), Cloud(limits=Limits(writes=30), parallel=60)
    took = [run(flows.put_many(items), cloud).seconds for cloud in (free, limited)]
    assert took[0] < 0.1 < took[1]
    assert free.refused == 0 < limited.refused
    assert len(list(limited.store.list("x/"))) == 60


def test_the_same_seed_fails_alike() -> None:
    def seconds(seed: int) -> float:
        items = [Item(f"x/data/{number:02}", b"1") for number in range(60)]
        return run(flows.put_many(items), Cloud(failing=0.2, seed=seed)).seconds

    assert seconds(1) == seconds(1) != seconds(2)
