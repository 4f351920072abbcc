"""What a commit costs: one file published into repositories of three sizes, a million entries at once, a long history.

The repositories are generated: their catalogs are built and attached, their files have no data. ``target`` is a small
nested catalog that is the same in all of them, so publishing into it must cost the same; ``inner`` is a directory of
the largest kind of catalog that balancing leaves. Times are of the whole process ``stratus publish``, on a directory
store. Usage: commit.py [ENTRIES...]
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stratus.catalogs.balance import Weights
from stratus.catalogs.build import Built, build
from stratus.catalogs.structure import EMPTY
from stratus.formats.changes import ChangeSet
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, Digest, ObjectId
from stratus.formats.history import History, Tag
from stratus.formats.records import Settings
from stratus.formats.reflog import RefKind, Reflog
from stratus.repository.creation import create
from stratus.repository.head import packed_history
from stratus.repository.layout import Layout
from stratus.repository.repository import Repository
from stratus.stores.contract import Item
from stratus.stores.directory import DirectoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.writers.direct import DirectWriter

FQRN = "bench.example.org"
SIZES = (1_000, 100_000, 1_000_000)
TARGET_ENTRIES = 500
PER_DIRECTORY = 100
DIRECTORIES_PER_PACKAGE = 100
REVISIONS = 10_000
ROUNDS = 5
NOW = 1_790_000_000  # Unix time
RESULTS = Path(__file__).parent / "results" / "commit.json"
STRATUS = Path(sys.executable).with_name("stratus")


@dataclass(frozen=True, slots=True)
class Publish:
    """One file published with the command line: medians; the spread is that of wall time, largest less smallest.

    Attributes:
        entries: of the repository.
        rows: of the catalogs that were written.
        written: bytes of everything that was stored.
    """

    name: str
    entries: int
    wall: float
    spread: float
    cpu: float
    rows: int
    requests: dict[str, int]
    written: int


@dataclass(frozen=True, slots=True)
class Bulk:
    """New entries in one publish, built and attached, in a process of their own: seconds, and MiB at the peak."""

    entries: int
    catalogs: int
    build: float
    store: float
    commit: float
    cpu: float
    peak: float
    stored: int  # bytes of all catalogs


@dataclass(frozen=True, slots=True)
class Log:
    """A database that each commit rewrites: bytes, and milliseconds to read, add to, and pack."""

    name: str
    rows: int
    size: int
    milliseconds: float


# -- making repositories ---------------------------------------------------------------------------------------------


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
        used.ru_maxrss / 1024,
        sum(len(catalog.stored) for catalog in built.catalogs),
    )


def make_in_child(top: Path, entries: int) -> Bulk:
    command = [sys.executable, __file__, "--make", str(top), str(entries)]
    return Bulk(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def grow_old(top: Path) -> list[Log]:
    """Gives the repository the reflog and the history of many revisions, each with a tag."""
    store = DirectoryStore(top)
    keys = RepositoryKeys.load(top.parent / "keys", FQRN)
    layout = Layout(FQRN)
    manifest = Repository(store, FQRN, [keys.public_key]).manifest

    def digest(kind: str, number: int) -> Digest:
        return Algorithm.SHA1.digest(b"%b %d" % (kind.encode(), number))

    with Reflog.create(FQRN) as reflog, History.create(FQRN) as history:
        for number in range(REVISIONS):
            reflog.add(RefKind.CATALOG, digest("catalog", number), NOW + number)
            reflog.add(RefKind.HISTORY, digest("history", number), NOW + number)
            history.put(Tag(f"release-{number}", digest("catalog", number), number, NOW + number, 16384))
        history.advance(Tag("", manifest.root, manifest.revision, manifest.timestamp, manifest.root_size))
        history_id, packed = packed_history(history, Algorithm.SHA1, None)
        reflog.add(RefKind.CATALOG, manifest.root, manifest.timestamp)
        log = reflog.pack()
        plain = history.pack(None)
    store.put(layout.object(history_id), packed)
    store.put(layout.reflog, log)
    signed = keys.sign_manifest(replace(manifest, history=history_id.digest, reflog=Algorithm.SHA1.digest(log)))
    store.put(layout.manifest, signed)

    def log_again() -> None:
        with Reflog.parse(log, sound=True) as again:
            again.add(RefKind.CATALOG, digest("x", 1), NOW)
            again.add(RefKind.HISTORY, digest("x", 2), NOW)
            Algorithm.SHA1.digest(again.pack())

    def tag_again() -> None:
        with History.parse(plain, sound=True) as again:
            again.advance(Tag("", digest("x", 1), REVISIONS + 9, NOW, 16384))
            packed_history(again, Algorithm.SHA1, None)

    return [
        Log("reflog", 2 * REVISIONS, len(log), 1000 * median_of(log_again)),
        Log("history", REVISIONS, len(plain), 1000 * median_of(tag_again)),
    ]


def median_of(work: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


# -- publishing ------------------------------------------------------------------------------------------------------


def publish(name: str, top: Path, entries: int, place: str) -> Publish:
    """Publishes one file after another into a directory of the repository."""
    walls, cpus, written = [], [], []
    receipt: dict[str, Any] = {}
    for number in range(ROUNDS + 1):
        source = top.parent / "source"
        source.mkdir(exist_ok=True)
        for old in source.iterdir():
            old.unlink()
        (source / f"{name.split()[0]}-{number}").write_text(f"{number}\n")
        before = stored_bytes(top)
        command = [str(STRATUS), "publish", "--json", "--keys", str(top.parent / "keys"), f"{top / FQRN}:{place}"]
        used, begun = cpu_of_children(), time.perf_counter()
        done = subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
        if number:  # the first one finds cold caches
            walls.append(time.perf_counter() - begun)
            cpus.append(cpu_of_children() - used)
            written.append(stored_bytes(top) - before + (top / FQRN / ".cvmfsreflog").stat().st_size)
        receipt = json.loads(done.stdout)
    return Publish(
        name,
        entries,
        statistics.median(walls),
        max(walls) - min(walls),
        statistics.median(cpus),
        rows_on_the_way(top, place),
        receipt["requests"],
        int(statistics.median(written)),
    )


def stored_bytes(top: Path) -> int:
    return sum(file.stat().st_size for file in (top / FQRN / "data").rglob("*") if file.is_file())


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows_on_the_way(top: Path, place: str) -> int:
    keys = RepositoryKeys.load(top.parent / "keys", FQRN)
    with Repository(DirectoryStore(top), FQRN, [keys.public_key]).at() as revision:
        revision.tree.catalog_of(place.encode())
        return sum(len(catalog) for catalog in revision.tree.catalogs)


# -- the report ------------------------------------------------------------------------------------------------------


def main(sizes: list[int]) -> None:
    publishes, bulks, logs = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        RepositoryKeys.generate(FQRN).save(Path(directory) / "keys")
        for entries in sizes:
            top = Path(directory) / f"store-{entries}"
            top.mkdir()
            bulks.append(make_in_child(top, entries))
            publishes.append(publish("target", top, entries, "/target/p000/d000"))
            publishes.append(publish("inner", top, entries, "/sw/p000/d000"))
        top = Path(directory) / f"store-{sizes[0]}"
        logs = grow_old(top)
        publishes.append(publish(f"target after {REVISIONS} revisions", top, sizes[0], "/target/p000/d000"))
    print("one file published      entries   wall ms  spread   cpu ms     rows   get  put   bytes written")
    for one in publishes:
        print(
            f"{one.name:<28}{one.entries:>10}{1000 * one.wall:>8.0f}{1000 * one.spread:>8.0f}{1000 * one.cpu:>9.0f}"
            f"{one.rows:>9}{one.requests['get']:>6}{one.requests['put']:>5}{one.written:>12}"
        )
    print("built and attached   catalogs  build s  store s  commit s   cpu s  peak MiB  bytes stored")
    for bulk in bulks:
        print(
            f"{bulk.entries:>18}{bulk.catalogs:>11}{bulk.build:>9.2f}{bulk.store:>9.2f}{bulk.commit:>10.3f}"
            f"{bulk.cpu:>8.2f}{bulk.peak:>10.0f}{bulk.stored:>14}"
        )
    for log in logs:
        print(f"{log.name} with {log.rows} rows: {log.size} bytes, {log.milliseconds:.1f} ms of each commit")
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    found = {
        "machine": machine,
        "publishes": [asdict(one) for one in publishes],
        "bulk": [asdict(bulk) for bulk in bulks],
        "logs": [asdict(log) for log in logs],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        print(json.dumps(asdict(make(Path(sys.argv[2]), int(sys.argv[3])))))
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
