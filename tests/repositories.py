"""Small repositories for tests: keys that are made once, sources from a dictionary, and what a reader sees."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from stratus.formats.entries import Kind
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.ingest.contract import Body, Draft, Placement, Warn
from stratus.repository.creation import create
from stratus.repository.repository import Repository
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.upkeep.check import check
from stratus.upkeep.check_problems import Problem
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish

FQRN = "test.example.org"


@functools.cache
def keys(fqrn: str = FQRN) -> RepositoryKeys:
    """Making keys is slow, so tests share them."""
    return RepositoryKeys.generate(fqrn)


@dataclass(frozen=True, slots=True)
class Files:
    """A source of regular files: content by path below the placement; ``None`` makes a directory."""

    files: Mapping[str, bytes | None]
    name: str = "files"

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        for name, data in self.files.items():
            path = placement.path + b"/" + name.encode()
            if data is None:
                yield Draft(path, Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
            else:
                yield Draft(path, Kind.FILE, 0o644, 0, 0, len(data), 1, body=Body(data, len(data)))


def new_repository(store: Store | None = None, settings: Settings = Settings()) -> Store:
    """An empty repository FQRN in the store, by default in memory."""
    store = MemoryStore() if store is None else store
    create(store, FQRN, keys(), settings)
    return store


def writer(store: Store) -> DirectWriter:
    return DirectWriter(store, FQRN, keys(), "tester")


def put(store: Store, files: Mapping[str, bytes | None], path: bytes = b"", options: Options = Options()) -> Receipt:
    """Publishes files."""
    return publish(writer(store), FQRN, path, [Files(files)], "tester", options)


def reader(store: Store) -> Repository:
    return Repository(store, FQRN, [keys().public_key])


def content(store: Store, which: int | str | None = None) -> dict[str, bytes | None]:
    """What a reader sees: every regular file's bytes, None for the rest, by path without the first slash."""
    with reader(store).at(which) as revision:
        return {
            entry.path[1:].decode(): revision.read(entry) if entry.kind is Kind.FILE else None
            for entry in revision.walk()
        }


def problems(store: Store, *, data: bool = False) -> list[Problem]:
    """What `stratus check` finds."""
    return list(check(store, FQRN, [keys().public_key], now=datetime.now(UTC), data=data))
