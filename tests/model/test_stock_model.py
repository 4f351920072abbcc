"""Random edits on top of what the stock tools wrote: the rest stays, and every rule of the format is kept."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratus.formats.entries import Entry
from stratus.repository.adoption import adopt
from stratus.repository.repository import Repository
from stratus.repository.revision import Revision
from stratus.stores.directory import DirectoryStore
from stratus.upkeep.check import check
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish, remove
from tests.model.trees import Shown, Step, Tree, apply, from_entries, possible, steps
from tests.repositories import keys
from tests.stock import NAMES, unpack


def shown(revision: Revision) -> Shown:
    def read(entry: Entry) -> bytes:
        return b"" if entry.content is None or entry.content.external else revision.read(entry)

    return from_entries(revision.walk(), read)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(taken=st.lists(steps, min_size=1, max_size=4))
def test_edits_of_stock_repositories(name: str, taken: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stock = unpack(name, Path(directory))
        store, fqrn = DirectoryStore(stock.store), stock.fqrn
        adopt(store, fqrn, keys(fqrn))
        repository = Repository(store, fqrn, [keys(fqrn).public_key])
        with repository.at() as revision:
            model = shown(revision).nodes
        for wish in taken:
            step = wish.aimed(model)
            if not possible(model, step):
                continue
            writer = DirectWriter(store, fqrn, keys(fqrn), "tester")
            if step.tree is None:
                remove(writer, fqrn, step.path, "tester", recursive=True)
            else:
                publish(writer, fqrn, step.path, [Tree(step.tree)], "tester", Options(replace=step.replace))
            apply(model, step)
            repository.refresh()
            with repository.at() as revision:
                shown(revision).agrees(model)
            assert list(check(store, fqrn, [keys(fqrn).public_key], now=datetime.now(UTC))) == []
