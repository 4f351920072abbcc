"""A mount that follows shows after each publish what the model holds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratus.client.filesystem import expand
from stratus.stores.directory import DirectoryStore
from tests.client.conftest import Mounted, why_not
from tests.model.test_model import SETTINGS, take
from tests.model.trees import Model, Step, apply, from_directory, possible, steps
from tests.repositories import new_repository, reader

_NOBODY = 65534  # as whom the kernel shows an owner of -1


@contextmanager
def mounted() -> Iterator[tuple[DirectoryStore, Mounted]]:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        store = DirectoryStore(top / "store")
        new_repository(store, SETTINGS)
        (top / "mnt").mkdir()
        made = Mounted(reader(store), top / "mnt", top / "cache")
        try:
            made.start(poll=0.05)
            yield store, made
        finally:
            made.end()


def as_mounted(model: Model) -> Model:
    """The model with what the kernel and the client make of it: owners that no user has, variables in links."""
    return {
        path: replace(
            node,
            owner=(_shown(node.owner[0]), _shown(node.owner[1])),
            target=expand(node.target, os.environb),
        )
        for path, node in model.items()
    }


def _shown(number: int) -> int:
    return _NOBODY if number == 2**32 - 1 else number


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
@pytest.mark.skipif(os.geteuid() != 0, reason="reading files of every mode needs root")
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=2, max_size=5))
def test_a_mount_that_follows_shows_the_model(taken: list[Step]) -> None:
    model: Model = {}
    with mounted() as (store, mount):
        revision = 1
        for wish in taken:
            step = wish.aimed(model)
            if not possible(model, step):
                continue
            take(store, step)
            apply(model, step)
            revision += 1
            mount.follow_to(revision)
            from_directory(os.fsencode(mount.directory)).agrees(as_mounted(model))
