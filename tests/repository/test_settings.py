"""Settings are changed by whoever is first, and nothing that others changed gets lost."""

from __future__ import annotations

import msgspec
import pytest

from stratus.errors import Changed, NoSuchRepository, UsageError
from stratus.formats import records
from stratus.formats.records import Settings
from stratus.repository.layout import Layout
from stratus.repository.settings import change, read
from stratus.stores import flows
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Fault, SimulatedClock, Simulation
from tests.repositories import FQRN, content, new_repository, problems, put

LAYOUT = Layout(FQRN)


def test_what_others_change_meanwhile_is_kept() -> None:
    store = new_repository()
    asked = 0

    def wanted(settings: Settings) -> Settings:
        nonlocal asked
        asked += 1
        if asked == 1:
            flows.run(change(LAYOUT, lambda found: msgspec.structs.replace(found, ttl=60)), store)
        return msgspec.structs.replace(settings, auto_tags=False)

    before, after = flows.run(change(LAYOUT, wanted), store)
    assert (before.ttl, before.auto_tags, after.ttl, after.auto_tags) == (60, True, 60, False)
    assert flows.run(read(LAYOUT), store) == after
    assert after.gen == 2


def test_what_is_so_already_is_not_written() -> None:
    store = new_repository()
    version = store.get(LAYOUT.settings).version
    before, after = flows.run(change(LAYOUT, lambda found: found), store)
    assert before == after
    assert store.get(LAYOUT.settings).version == version


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.LOSE, Fault.LATE])
def test_a_change_whose_answer_is_lost_is_made_all_the_same(fault: Fault) -> None:
    clock = SimulatedClock()
    store = MemoryStore(clock=clock)
    new_repository(store)
    cloud = Simulation(store, clock)

    def longer(found: Settings) -> Settings:
        return msgspec.structs.replace(found, webhooks=("https://example.org/",))

    process = cloud.start(change(LAYOUT, longer))
    faults = [fault]
    while not process.ended:
        putting = isinstance(process.requests[len(process.answers)], flows.PutOne)
        cloud.step(process, faults.pop() if faults and putting else None)
    assert process.error is None
    assert flows.run(read(LAYOUT), store).webhooks == ("https://example.org/",)


def test_it_is_given_up_where_others_are_always_faster() -> None:
    store = new_repository(MemoryStore())

    def wanted(settings: Settings) -> Settings:
        flows.run(change(LAYOUT, lambda found: msgspec.structs.replace(found, ttl=found.ttl + 1)), store)
        return msgspec.structs.replace(settings, auto_tags=False)

    with pytest.raises(Changed, match="all the time"):
        flows.run(change(LAYOUT, wanted), store)


def test_there_are_none_without_a_repository() -> None:
    with pytest.raises(NoSuchRepository, match="no settings"):
        flows.run(read(LAYOUT), MemoryStore())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"chunk_average": 1}, "cannot be"),
        ({"chunk_maximum": 2 << 30}, "too large"),
        ({"ttl": 0}, "without looking"),
        ({"ttl": 1 << 31}, "without looking"),
        ({"catalog_weight": 5}, "too small"),
        ({"auto_tag_limit": 0}, "no use"),
    ],
)
def test_what_nobody_could_publish_or_read_with_is_refused(fields: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        msgspec.structs.replace(Settings(), **fields).check()
    msgspec.structs.replace(Settings(), catalog_weight=0).check()


@pytest.mark.parametrize("then", ["rmd160", "shake128"])
def test_the_hash_of_new_objects_may_change(then: str) -> None:
    """Old ones keep their names; a catalog may name both."""
    store = new_repository(settings=Settings(chunk_minimum=1000, chunk_average=2000, chunk_maximum=4000))
    large = bytes(range(256)) * 40
    put(store, {"old": b"1", "kept": large, "sub": None, "sub/.cvmfscatalog": b"", "sub/old": b"2"})

    def becomes(hash_: str) -> None:
        flows.run(
            change(LAYOUT, lambda found: msgspec.convert({**msgspec.to_builtins(found), "hash": hash_}, Settings)),
            store,
        )

    becomes(then)
    put(store, {"new": large + b"!", "empty": b"", "other": None, "other/.cvmfscatalog": b"", "other/new": b"3"})
    assert problems(store, data=True) == []
    becomes("sha1")
    put(store, {"old": b"4", "sub/new": b"5"})
    assert problems(store, data=True) == []
    found = content(store)
    assert (found["old"], found["kept"], found["new"], found["other/new"]) == (b"4", large, large + b"!", b"3")
    assert records.parse(store.get(LAYOUT.settings).data, Settings).gen == 2
