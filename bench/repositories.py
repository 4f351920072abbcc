"""Repositories to measure with, of any size: their catalogs are built and attached, their files have no data.

``/target`` is a small nested catalog, the same in all of them; all else is in ``/sw``, balanced. Usage, in a process
of its own so that the memory is that of building alone: ``python -m bench.repositories DIRECTORY ENTRIES``
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from stratus.catalogs.balance import Weights
from stratus.catalogs.build import Built, build
from stratus.catalogs.structure import EMPTY
from stratus.formats.changes import ChangeSet
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, Digest, ObjectId
from stratus.formats.records import Settings
from stratus.repository.creation import create
from stratus.repository.layout import Layout
from stratus.stores.contract import Item
from stratus.stores.directory import DirectoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.writers.direct import DirectWriter

FQRN = "bench.example.org"
TARGET_ENTRIES = 500
PER_DIRECTORY = 100
DIRECTORIES_PER_PACKAGE = 100
NOW = 1_790_000_000  # Unix time


@dataclass(frozen=True, slots=True)
class Bulk:
    """New entries, built, stored and attached in one commit: seconds; bytes at the peak, and in the store."""

    entries: int
    catalogs: int
    build: float
    store: float
    commit: float
    cpu: float
    peak: int
    stored: int


class Files:
    """Entries of files without data, sorted, as often as they are asked for."""

    def __init__(self, top: bytes, count: int) -> None:
        self._top = top
        self._count = count

    def __iter__(self) -> Iterator[Entry]:
        for number in range(self._count):
            directory = number // PER_DIRECTORY
            path = b"%b/p%03d/d%03d/f%03d" % (
                self._top,
                directory // DIRECTORIES_PER_PACKAGE,
                directory % DIRECTORIES_PER_PACKAGE,
                number % PER_DIRECTORY,
            )
            content = Content(Algorithm.SHA1, Digest(Algorithm.SHA1, hashlib.sha1(path).digest()))
            yield Entry(path, Kind.FILE, 0o644, 0, 0, number, NOW * 1_000_000_000, content=content)


def attach(writer: DirectWriter, store: DirectoryStore, built: Built) -> None:
    layout = Layout(FQRN)
    items = [Item(layout.object(catalog.id), catalog.stored) for catalog in built.catalogs]
    items.append(Item(layout.object(ObjectId(Algorithm.SHA1.digest(EMPTY))), EMPTY))
    list(store.put_many(items))
    with writer.lease(built.attach.entry.path) as lease:
        writer.submit(ChangeSet(lease.id, FQRN, built.attach.entry.path, (built.attach,), base=lease.base))


def make(top: Path, entries: int) -> Bulk:
    """A repository with ``target`` and everything else in ``/sw``; measured for the latter."""
    store = DirectoryStore(top)
    keys = RepositoryKeys.load(top.parent / "keys", FQRN)
    create(store, FQRN, keys, Settings())
    writer = DirectWriter(store, FQRN, keys, "bench")
    attach(writer, store, build(Files(b"/target", TARGET_ENTRIES), b"/target", Algorithm.SHA1, NOW))
    begun = time.perf_counter()
    built = build(Files(b"/sw", entries), b"/sw", Algorithm.SHA1, NOW, Weights())
    done = time.perf_counter()
    layout = Layout(FQRN)
    list(store.put_many([Item(layout.object(catalog.id), catalog.stored) for catalog in built.catalogs]))
    stored = time.perf_counter()
    with writer.lease(b"/sw") as lease:
        writer.submit(ChangeSet(lease.id, FQRN, b"/sw", (built.attach,), base=lease.base))
    committed = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Bulk(
        entries,
        len(built.catalogs),
        done - begun,
        stored - done,
        committed - stored,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss << 10,
        sum(len(catalog.stored) for catalog in built.catalogs),
    )


def make_in_child(top: Path, entries: int) -> Bulk:
    """``make`` in a process of its own."""
    command = [sys.executable, "-m", "bench.repositories", str(top), str(entries)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    return Bulk(**json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(make(Path(sys.argv[1]), int(sys.argv[2])))))
