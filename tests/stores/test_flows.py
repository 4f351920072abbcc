from __future__ import annotations

import pytest

from stratus.errors import Exists, NotFound
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Exchange
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore


def write_and_read(key: str) -> Flow[bytes]:
    yield from flows.put(key, key.encode(), ABSENT)
    return (yield from flows.get(key)).data


def test_a_flow_is_driven_by_a_store() -> None:
    store = MemoryStore()
    assert flows.run(write_and_read("a"), store) == b"a"
    with pytest.raises(Exists):
        flows.run(write_and_read("a"), store)


def test_what_a_flow_does_not_catch_is_raised_and_what_it_catches_is_not() -> None:
    store = MemoryStore()
    assert flows.run(flows.find("a"), store) is None
    with pytest.raises(NotFound):
        flows.run(flows.get("a"), store)


def test_flows_run_together_in_steps() -> None:
    steps = []
    flow = flows.together([write_and_read("a"), write_and_read("b"), flows.find("c")])
    store = MemoryStore()

    def counted() -> Flow[list[object]]:
        answers = None
        while True:
            try:
                requests = next(flow) if answers is None else flow.send(answers)
            except StopIteration as stop:
                return list(stop.value)
            steps.append(len(requests))
            answers = yield requests

    assert flows.run(counted(), store) == [b"a", b"b", None]
    assert steps == [3, 2]


def test_flows_together_all_end_before_the_first_error_is_raised() -> None:
    store = MemoryStore()
    with pytest.raises(NotFound):
        flows.run(flows.both(flows.get("nothing"), write_and_read("a")), store)
    assert store.get("a").data == b"a"


def test_every_request_reaches_the_store() -> None:
    store = MemoryStore()

    def everything() -> Flow[None]:
        yield from flows.put_many([])
        version = yield from flows.put("a", b"1")
        yield from flows.copy("a", "b", version)
        assert [stat.key for stat in (yield from flows.list_keys(""))] == ["a", "b"]
        assert (yield from flows.missing(["a", "c"])) == {"c"}
        prepared = yield from flows.prepare_put("c", b"1", ABSENT)
        yield from flows.send(prepared)
        condemned = yield from flows.prepare_delete(["a"])
        assert (yield from flows.send(condemned)) == {"a"}
        assert (yield from flows.delete(["b"])) == {"b"}
        yield from flows.sync()
        assert (yield from flows.now()) <= store.now()
        yield from flows.sleep(0)

    seen: list[Exchange] = []
    flows.run(everything(), store.observed(seen.append))
    assert [stat.key for stat in store.list("")] == ["c"]
    assert [one.verb for one in seen] == ["put", "put", "list", "head", "head", "put", "delete", "delete"]
