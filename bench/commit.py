"""What a commit costs: one file published into repositories of three sizes, many entries at once, a long history.

``target`` is a small nested catalog that is the same in all the repositories, so publishing into it must cost the same;
``inner`` is a directory of the largest kind of catalog that balancing leaves. Times are of the whole process
``stratus publish``, on a directory store; the first of each kind finds cold caches and does not count. The
repositories' own catalogs are built and attached, which is measured too; ``--million`` publishes as many entries from
an archive.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench import data
from bench.measuring import STRATUS, Used, Values, cpus, machine, print_table, rounded, run, walls, write_results
from bench.repositories import FQRN, NOW, make_in_child
from stratus.formats.hashes import Algorithm, Digest
from stratus.formats.history import History, Tag
from stratus.formats.reflog import RefKind, Reflog
from stratus.repository.head import packed_history
from stratus.repository.layout import Layout
from stratus.repository.repository import Repository
from stratus.stores.directory import DirectoryStore
from stratus.trust.keys import RepositoryKeys

SIZES = (1_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000,)
REVISIONS = 10_000
QUICK_REVISIONS = 100
MILLION = 1_000_000
QUICK_MILLION = 2_000
ROUNDS = 15
QUICK_ROUNDS = 1
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Publish:
    """One file published: milliseconds, requests of the last round, bytes of everything that was stored.

    ``entries`` are those of the repository, ``rows`` those of the catalogs that were written; ``reflog`` is how many of
    the bytes are the reflog's.
    """

    name: str
    entries: int
    wall: Values
    cpu: Values
    rows: int
    requests: dict[str, int]
    written: Values
    reflog: int


@dataclass(frozen=True, slots=True)
class Many:
    """New entries in one ``stratus publish``: seconds, and bytes at the peak of all its processes together."""

    entries: int
    wall: float
    cpu: float
    peak: int
    catalogs: int


@dataclass(frozen=True, slots=True)
class Log:
    """A database that each commit rewrites: bytes, and milliseconds to read, add to, and pack."""

    name: str
    rows: int
    size: int
    cpu: Values


# -- publishing ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Series:
    """One file after another, published into one directory of one repository of so many entries."""

    name: str
    top: Path
    entries: int
    place: str
    runs: list[Used] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def publish(self) -> None:
        source = self.top.parent / "source"
        source.mkdir(exist_ok=True)
        for old in source.iterdir():
            old.unlink()
        (source / f"{self.name.split()[0]}-{len(self.runs)}").write_text(f"{len(self.runs)}\n")
        before = _stored(self.top)
        self.runs.append(_publish(self.top, self.place, source))
        self.written.append(_stored(self.top) - before + _reflog(self.top))

    def result(self) -> Publish:
        """Without the first one, which finds cold caches."""
        runs = self.runs[1:]
        return Publish(
            self.name,
            self.entries,
            walls(runs).times(1000, "ms"),
            cpus(runs).times(1000, "ms"),
            _rows_on_the_way(self.top, self.place),
            json.loads(runs[-1].output)["requests"],
            Values("bytes", tuple(self.written[1:])),
            _reflog(self.top),
        )


def publish_in_turn(series: list[Series], rounds: int) -> list[Publish]:
    """In turn, so that all of them see the same machine, which is now faster, now slower."""
    for _ in range(rounds + 1):
        for one in series:
            one.publish()
    return [one.result() for one in series]


def _publish(top: Path, place: str, source: Path, watched: bool = False) -> Used:
    command = [STRATUS, "publish", "--json", "--keys", str(top.parent / "keys"), f"{top / FQRN}:{place}", str(source)]
    return run(command, {"STRATUS_CACHE": str(top.parent / "cache")}, watched=watched)


def _stored(top: Path) -> int:
    """Bytes of all objects."""
    return sum(file.stat().st_size for file in (top / FQRN / "data").glob("??/*"))


def _reflog(top: Path) -> int:
    return (top / FQRN / ".cvmfsreflog").stat().st_size


def _rows_on_the_way(top: Path, place: str) -> int:
    keys = RepositoryKeys.load(top.parent / "keys", FQRN)
    with Repository(DirectoryStore(top), FQRN, [keys.public_key]).at() as revision:
        revision.tree.catalog_of(place.encode())
        return sum(len(catalog) for catalog in revision.tree.catalogs)


def publish_many(top: Path, archive: Path, entries: int) -> Many:
    """Publishes an archive into a directory that is not there yet."""
    before = _catalogs(top)
    used = _publish(top, "/many", archive, watched=True)
    return Many(entries, used.wall, used.cpu, used.peak, _catalogs(top) - before)


def _catalogs(top: Path) -> int:
    return sum(1 for _ in (top / FQRN / "data").glob("??/*C"))


# -- a long history --------------------------------------------------------------------------------------------------


def grow_old(top: Path, revisions: int, rounds: int) -> list[Log]:
    """Gives the repository the reflog and the history of many revisions, each with a tag."""
    store = DirectoryStore(top)
    keys = RepositoryKeys.load(top.parent / "keys", FQRN)
    layout = Layout(FQRN)
    manifest = Repository(store, FQRN, [keys.public_key]).manifest

    def digest(kind: str, number: int) -> Digest:
        return Algorithm.SHA1.digest(b"%b %d" % (kind.encode(), number))

    with Reflog.create(FQRN) as reflog, History.create(FQRN) as history:
        for number in range(revisions):
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
            again.advance(Tag("", digest("x", 1), revisions + 9, NOW, 16384))
            packed_history(again, Algorithm.SHA1, None)

    return [
        Log("reflog", 2 * revisions, len(log), _timed(log_again, rounds)),
        Log("history", revisions, len(plain), _timed(tag_again, rounds)),
    ]


def _timed(work: Callable[[], None], rounds: int) -> Values:
    """CPU milliseconds."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        found.append(1000 * (time.process_time() - begun))
    return Values("ms", tuple(found))


# -- the report ------------------------------------------------------------------------------------------------------


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    parser.add_argument("--million", action="store_true", help="also publish a million entries; minutes, 2 GB of disk")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where everything is written")
    arguments = parser.parse_args(words)
    quick = arguments.quick
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if quick else (SIZES, ROUNDS)
    revisions, million = (QUICK_REVISIONS, QUICK_MILLION) if quick else (REVISIONS, MILLION)
    of = machine()
    top = data.directory(arguments.data)
    series, bulks, many = [], [], []
    with tempfile.TemporaryDirectory(dir=top) as work:
        RepositoryKeys.generate(FQRN).save(Path(work) / "keys")
        for entries in sizes:
            store = Path(work) / f"store-{entries}"
            store.mkdir()
            bulks.append(make_in_child(store, entries))
            series.append(Series("target", store, entries, "/target/p000/d000"))
            series.append(Series("inner", store, entries, "/sw/p000/d000"))
        publishes = publish_in_turn(series, rounds)
        smallest = Path(work) / f"store-{sizes[0]}"
        if arguments.million:
            many.append(publish_many(smallest, data.many_entries(top, million), million))
        logs = grow_old(smallest, revisions, rounds)
        name = f"target after {revisions} revisions"
        publishes += publish_in_turn([Series(name, smallest, sizes[0], "/target/p000/d000")], rounds)
    _print(publishes, many, logs)
    print_table(
        "entries built, stored and attached",
        ("entries", "catalogs", "build s", "store s", "commit s", "CPU s", "peak MB", "MB stored"),
        [
            (
                *(one.entries, one.catalogs),
                *map(rounded, (one.build, one.store, one.commit, one.cpu, one.peak / _MB, one.stored / _MB)),
            )
            for one in bulks
        ],
    )
    found: dict[str, Any] = {"rounds": rounds, "publishes": publishes, "many": many, "bulk": bulks, "logs": logs}
    return write_results("commit", of, found)


def _print(publishes: list[Publish], many: list[Many], logs: list[Log]) -> None:
    print_table(
        "one file published: median (least-most)",
        ("into", "entries", "wall ms", "CPU ms", "rows", "get", "put", "bytes written", "of the reflog"),
        [
            (
                *(one.name, one.entries, one.wall, one.cpu, one.rows),
                *(one.requests["get"], one.requests["put"], rounded(one.written.median), one.reflog),
            )
            for one in publishes
        ],
    )
    if many:
        print_table(
            "new entries in one publish",
            ("entries", "wall s", "CPU s", "peak MB", "catalogs"),
            [(one.entries, *map(rounded, (one.wall, one.cpu, one.peak / _MB)), one.catalogs) for one in many],
        )
    print_table(
        "what each commit rewrites",
        ("", "rows", "bytes", "CPU ms"),
        [(log.name, log.rows, log.size, log.cpu) for log in logs],
    )


if __name__ == "__main__":
    main()
