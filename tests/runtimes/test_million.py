"""A change set of a million new entries, committed by functions that have a minute and a gibibyte each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratus.commit.submitting import submit
from stratus.formats import change_file
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.step import Step
from stratus.functions.contract import Event
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.runtimes.local.budgets import Budget, default_budgets
from stratus.runtimes.local.runtime import LocalRuntime
from stratus.runtimes.local.worker import Place
from stratus.stores import flows
from stratus.stores.directory import DirectoryStore
from tests.commit.test_parts import EMPTY, FILE
from tests.repositories import FQRN, keys, new_repository, problems, put, reader

LAYOUT = Layout(FQRN)
QUIET = Epoch(0, "quiet")


@pytest.mark.soak
def test_it_takes_several_invocations(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    new_repository(store)
    directories = [f"d{number:04d}" for number in range(2000)]
    put(store, {f"{name}/old": b"" for name in directories}, b"/sw")
    keys().save(tmp_path / "keys")

    held = flows.run(acquire(LAYOUT, Wish(b"/sw", "writer", "host", "secret", ttl=7200), QUIET), store)
    records = (
        Put(replace(FILE, path=f"/sw/{name}/f{number:03d}".encode())) for name in directories for number in range(500)
    )
    file = change_file.pack(ChangeSet(held.claim.id, FQRN, b"/sw", records, (EMPTY,)))
    flows.run(submit(LAYOUT, held, file, 1, QUIET), store)

    async def positions() -> set[int]:
        """How far it had come after each invocation."""
        budgets = {**default_budgets(1), "commit": Budget(seconds=60, memory=1 << 30, workers=1, waiting=4)}
        runtime = LocalRuntime({FQRN: Place(store.url, tmp_path / "keys")}, budgets, tend_every=1e9)
        await runtime.start()
        found = set()
        try:
            assert (await runtime.invoke(Event("commit", "commit", FQRN))).status == 200
            while list(store.list(LAYOUT.queue())):
                found.add(Step.parse(store.get(LAYOUT.step("commit", held.claim.id)).data).body["position"])
                await asyncio.sleep(0.5)
            return found
        finally:
            await runtime.stop()

    assert len(asyncio.run(positions())) > 1
    with reader(store).at() as revision:
        assert sum(entry.path.startswith(b"/sw/d") for entry in revision.walk()) == 2000 * 502
    assert problems(store) == []
