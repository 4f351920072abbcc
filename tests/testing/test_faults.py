from __future__ import annotations

from collections.abc import Callable

import pytest

from stratus.errors import Exists, NotFound, StoreError, Unknown
from stratus.stores.contract import ABSENT, Item, Match
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.testing.store_kit import StoreTests


class TestFaultyStoreThatPassesEverything(StoreTests):
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore(MemoryStore(), lambda _: Fault.PASS)


def at(index: int, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.index == index else Fault.PASS


def test_the_plan_sees_every_request() -> None:
    calls: list[Call] = []

    def plan(call: Call) -> Fault:
        calls.append(call)
        return Fault.PASS

    store = FaultyStore(MemoryStore(), plan)
    prepared = store.prepare_put("a", b"1", ABSENT)
    prepared.send()
    list(store.put_many([Item("b", b"1"), Item("c", b"1")]))
    list(store.get_many(["a", "nothing"]))
    store.missing(["a"])
    list(store.list("x"))
    store.copy("a", "d", store.get("a").version)
    store.prepare_delete(["a"]).send()
    assert [call.index for call in calls] == list(range(len(calls)))
    assert [(call.verb, call.key) for call in calls] == [
        ("put", "a"),
        ("put", "b"),
        ("put", "c"),
        ("get", "a"),
        ("get", "nothing"),
        ("head", "a"),
        ("list", "x"),
        ("get", "a"),
        ("put", "d"),
        ("delete", "a"),
    ]


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        (Fault.FAIL, StoreError, False),
        (Fault.VANISH, Unknown, False),
        (Fault.LOSE, Unknown, True),
        (Fault.DIE, Killed, False),
        (Fault.DIE_AFTER, Killed, True),
    ],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_a_conditional_put_meets_its_fault(
    fault: Fault, error: type[BaseException], landed: bool, prepared: bool
) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, at(0, fault))
    with pytest.raises(error) as caught:
        store.prepare_put("a", b"1", ABSENT).send() if prepared else store.put("a", b"1", ABSENT)
    assert type(caught.value) is error
    assert inner.missing(["a"]) == (set() if landed else {"a"})


def test_a_lost_answer_of_another_request_is_a_store_error_and_of_a_delete_an_empty_set() -> None:
    inner = MemoryStore()
    inner.put("a", b"1")
    store = FaultyStore(inner, lambda _: Fault.LOSE)
    for request in (lambda: store.get("a"), lambda: store.put("a", b"2"), lambda: list(store.list(""))):
        with pytest.raises(StoreError) as caught:
            request()
        assert type(caught.value) is StoreError
    assert inner.get("a").data == b"2"
    assert store.delete(["a"]) == store.prepare_delete(["a"]).send() == set()
    assert inner.missing(["a"]) == {"a"}


def test_a_lost_answer_may_have_been_a_refusal() -> None:
    inner = MemoryStore()
    inner.put("a", b"1")
    with pytest.raises(Unknown):
        FaultyStore(inner, lambda _: Fault.LOSE).put("a", b"2", ABSENT)
    with pytest.raises(Unknown):
        FaultyStore(inner, lambda _: Fault.LOSE).put("a", b"2", Match(inner.put("b", b"2")))
    assert inner.get("a").data == b"1"


def test_a_dead_process_makes_no_more_requests() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, at(1, Fault.DIE_AFTER))
    store.put("a", b"1")
    with pytest.raises(Killed):
        store.put("b", b"1")
    for request in (lambda: store.get("a"), lambda: store.observed(lambda _: None).put("c", b"1")):
        with pytest.raises(Killed):
            request()
    assert FaultyStore(inner, lambda _: Fault.PASS).missing(["a", "b", "c"]) == {"c"}


def test_errors_of_the_store_pass_through() -> None:
    store = FaultyStore(MemoryStore(), lambda _: Fault.PASS)
    store.put("a", b"1")
    with pytest.raises(Exists):
        store.put("a", b"1", ABSENT)
    with pytest.raises(NotFound):
        store.get("b")
