"""Whatever is published: the Python API, a mount and a recount agree with a plain dictionary."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratus.formats import paths
from stratus.formats.entries import Kind
from stratus.formats.records import Settings
from stratus.stores.contract import Store
from stratus.writers.publish import Options, publish, remove
from tests.model.trees import CHUNKS, Model, Node, Step, Tree, apply, from_entries, possible, steps
from tests.repositories import FQRN, new_repository, problems, reader, writer

MINIMUM, AVERAGE, MAXIMUM = CHUNKS
SETTINGS = Settings(chunk_minimum=MINIMUM, chunk_average=AVERAGE, chunk_maximum=MAXIMUM)
BALANCED = Settings(chunk_minimum=MINIMUM, chunk_average=AVERAGE, chunk_maximum=MAXIMUM, catalog_weight=8)


def take(store: Store, step: Step) -> None:
    if step.tree is None:
        remove(writer(store), FQRN, step.path, "tester", recursive=True)
    else:
        options = Options(replace=step.replace)
        publish(writer(store), FQRN, step.path, [Tree(step.tree)], "tester", options)


def verify(store: Store, model: Model) -> None:
    with reader(store).at() as revision:
        from_entries(revision.walk(), revision.read).agrees(model)
    assert problems(store, data=True) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=4))
def test_the_repository_holds_what_the_model_holds(taken: list[Step]) -> None:
    store = new_repository(settings=SETTINGS)
    model: Model = {}
    for wish in taken:
        step = wish.aimed(model)
        if possible(model, step):
            take(store, step)
            apply(model, step)
            verify(store, model)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=4))
def test_balancing_changes_nothing_of_what_is_seen(taken: list[Step]) -> None:
    store = new_repository(settings=BALANCED)
    model: Model = {}
    for wish in taken:
        step = wish.aimed(model)
        if not possible(model, step) or step.replace:
            continue
        take(store, step)
        apply(model, step)
        with reader(store).at() as revision:
            automatic = {paths.parent(e.path) for e in revision.walk() if paths.name(e.path) == b".cvmfsautocatalog"}
            made = {top + name for top in automatic for name in (b"/.cvmfscatalog", b"/.cvmfsautocatalog")}
            shown = (entry for entry in revision.walk() if entry.path not in made or entry.path in model)
            from_entries(shown, revision.read).agrees(model)
        assert problems(store) == []


def test_the_model_itself_does_what_one_expects_of_a_publish() -> None:
    model: Model = {}
    apply(model, Step(b"/top", {b"/a": _file(b"1"), b"/d/b": _file(b"2")}))
    assert set(model) == {b"/top", b"/top/a", b"/top/d", b"/top/d/b"}
    apply(model, Step(b"/top", {b"/a": _file(b"3")}, replace=True))
    assert {path: node.data for path, node in model.items()} == {b"/top": b"", b"/top/a": b"3"}
    with pytest.raises(AssertionError):
        verify(new_repository(), model)


def _file(data: bytes) -> Node:
    return Node(Kind.FILE, 0o644, (0, 0), 1, data)
