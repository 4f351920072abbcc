"""Publishing content: small files and large ones, into a directory and into a bucket: what it takes, what bounds it.

Whole commands ``stratus publish`` into repositories that are new in each round, beside ``tar -x`` or ``cp`` of the same
content on the same disk, and beside the rate at which the plain store client puts the same objects into the same S3
server. The stock tools publish only repositories that their own server made: ``--stock NAME`` names one that may be
changed, and has it ingest the archive too.
"""

from __future__ import annotations

import argparse
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from bench import data
from bench.measuring import STRATUS, Used, Values, cpus, machine, print_table, rounded, run, walls, write_results
from stratus.errors import StratusError
from stratus.formats.chunking import ChunkDetector, ChunkLimits
from stratus.formats.compression import Packing
from stratus.formats.hashes import Algorithm
from stratus.ingest.contract import Placement
from stratus.ingest.sources import open_source
from stratus.stores.contract import Item
from stratus.stores.directory import DirectoryStore
from stratus.testing.s3_server import LocalS3

FQRN = "bench.example.org"
ROUNDS = 5
S3_FILES = 5_000
QUICK_FILES = 300
QUICK_BYTES = 50_000_000
TEN_GIGABYTES = 10_000_000_000
CHUNKER_GOAL = 300  # MB/s on one core
_READ = 256 << 10  # bytes that the chunker is fed at once
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What one run measures: the content, how often, and where it may write."""

    archive: Path
    files: int
    plain: int  # bytes in the archive's files
    large: Path
    large_size: int
    rounds: int
    work: Path
    s3_archive: Path
    s3_files: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. ``speed`` is in the unit of the table."""

    name: str
    wall: Values
    cpu: Values
    speed: Values


def row(name: str, runs: list[Used], amount: float, unit: str) -> Row:
    return Row(name, walls(runs), cpus(runs), walls(runs).per(amount, unit))


def print_rows(title: str, rows: list[Row]) -> None:
    cells = [(one.name, one.speed, one.wall, one.cpu) for one in rows]
    print_table(f"{title}: median (least-most)", ("", rows[0].speed.unit, "wall s", "CPU s"), cells)


# -- repositories ----------------------------------------------------------------------------------------------------


class Target:
    """A new repository in a store, published with the command line; nothing is remembered of earlier ones.

    It stays until all has been measured: where files were deleted a moment ago, ext4 without a journal is up to ten
    times slower to create others, as it keeps their inodes back for some minutes.
    """

    def __init__(self, work: Path, store: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.top = Path(tempfile.mkdtemp(dir=work))
        self._environment = {
            "STRATUS_CACHE": str(self.top / "cache"),
            "STRATUS_CONFIG": str(self.top / "config.toml"),
            **(environment or {}),
        }
        # The keys are there after the first time.
        self._run("create", FQRN, store or str(self.store), "--keys", str(work / "keys"))

    @property
    def store(self) -> Path:
        """Where it is, if it is in a directory."""
        return self.top / "store"

    def publish(self, source: Path, cores: Collection[int] | None = None, watched: bool = False) -> Used:
        return self._run("publish", "--json", f"{FQRN}:/tree", str(source), cores=cores, watched=watched)

    def _run(self, *words: str, cores: Collection[int] | None = None, watched: bool = False) -> Used:
        os.sync()  # what was written before shall not be written now
        return run([STRATUS, *words], self._environment, cores, watched)


def beside(work: Path, *words: str | Path) -> tuple[Used, Used]:
    """A command that fills the empty directory that is its last word, and the same with what brings it to the disk."""
    directory = tempfile.mkdtemp(dir=work)
    os.sync()
    done = run([*words, directory])
    flushed = run(["sync", "-f", directory])
    return done, Used(done.wall + flushed.wall, done.cpu + flushed.cpu, "")


# -- parts -----------------------------------------------------------------------------------------------------------


def small_files(bench: Bench) -> list[Row]:
    """Into a directory store, against ``tar``."""
    first, again = [], []
    tar: list[Used] = []
    synced: list[Used] = []
    for _ in range(bench.rounds):
        one = Target(bench.work)
        first.append(one.publish(bench.archive))
        again.append(one.publish(bench.archive))
        for runs, used in zip((tar, synced), beside(bench.work, "tar", "-x", "-f", bench.archive, "-C"), strict=True):
            runs.append(used)
    named = {"first publish": first, "the same again": again, "tar -x": tar, "tar -x, and to the disk": synced}
    rows = [row(name, runs, bench.files, "files/s") for name, runs in named.items()]
    print_rows(f"{bench.files} small files, {rounded(bench.plain / _MB)} MB, into a directory", rows)
    return rows


def small_files_to_s3(bench: Bench) -> list[Row]:
    """Into SeaweedFS, against the store client alone: the same objects, from memory."""
    first, again, puts = [], [], []
    one = Target(bench.work)
    with LocalS3(bench.work / "s3") as server:
        one.publish(bench.s3_archive)
        top = one.store / FQRN / "data"
        items = [Item(f"data/{path.relative_to(top)}", path.read_bytes()) for path in sorted(top.glob("??/*"))]
        for number in range(bench.rounds):
            server.create_bucket(f"plain-{number}")
            begun, used = time.perf_counter(), time.process_time()
            for _ in server.store(f"plain-{number}").put_many(items):
                pass
            puts.append(Used(time.perf_counter() - begun, time.process_time() - used, ""))
            server.create_bucket(f"bench-{number}")
            bucket = Target(bench.work, f"s3://bench-{number}", server.environment())
            first.append(bucket.publish(bench.s3_archive))
            again.append(bucket.publish(bench.s3_archive))
    rows = [
        row("first publish", first, len(items), "objects/s"),
        row("put_many of the same objects", puts, len(items), "objects/s"),
        row("the same again", again, len(items), "objects/s"),
    ]
    title = f"{bench.s3_files} small files, {len(items)} objects, into SeaweedFS here (whose own CPU is not counted)"
    print_rows(title, rows)
    return rows


def large_files(bench: Bench) -> list[Row]:
    first, copied = [], []
    for _ in range(bench.rounds):
        one = Target(bench.work)
        first.append(one.publish(bench.large))
        copied.append(beside(bench.work, "cp", "-r", bench.large)[1])
    rows = [
        row("first publish", first, bench.large_size / _MB, "MB/s"),
        row("cp, and to the disk", copied, bench.large_size / _MB, "MB/s"),
    ]
    print_rows(f"large files, {rounded(bench.large_size / _MB)} MB, into a directory", rows)
    return rows


def stock(bench: Bench, repository: str) -> list[Row]:
    """The stock tools, into a repository of theirs on this machine."""
    runs = []
    for number in range(bench.rounds):
        os.sync()
        base = f"bench-{os.getpid()}-{number}"
        runs.append(run(["cvmfs_server", "ingest", "-t", bench.archive, "-b", base, repository]))
    rows = [row("cvmfs_server ingest", runs, bench.files, "files/s")]
    print_rows("the stock tools, the same archive", rows)
    return rows


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: see ``Used``. ``first`` and ``cpu`` are CPU seconds: of the process that decides, and of all."""

    name: str
    peak: int
    marks: int
    first: float
    cpu: float


def memory(bench: Bench, large: Path | None) -> list[Memory]:
    """Of all processes together, one run each, which being watched makes slower."""
    sources = {"small files": bench.archive, "large files": bench.large}
    found = []
    for name, source in {**sources, **({"ten gigabytes": large} if large else {})}.items():
        one = Target(bench.work)
        used = one.publish(source, watched=True)
        found.append(Memory(name, used.peak, used.marks, used.first, used.cpu))
    cells = [(one.name, rounded(one.peak / _MB), rounded(one.marks / _MB)) for one in found]
    print_table("peak memory of all processes together, MB", ("", "shared once", "sum of VmHWM"), cells)
    return found


def scaling(bench: Bench, unpinned: Row, watched: Memory) -> dict[str, Any]:
    """The first publish of the small files on some of the processors, and what more of them could give.

    The forecast is the larger of two: the CPU time of the one process that decides, and that of all shared out evenly.
    """
    processors = sorted(os.sched_getaffinity(0))
    measured = {}
    for count in (1, 2, 4, 8):
        if count < len(processors):
            runs = []
            for _ in range(bench.rounds):
                one = Target(bench.work)
                runs.append(one.publish(bench.archive, cores=processors[:count]))
            measured[count] = row(_cores(count), runs, bench.files, "files/s")
    measured[len(processors)] = replace(unpinned, name=_cores(len(processors)))
    print_rows("small files, first publish, pinned to some processors", list(measured.values()))
    all_ = measured[max(measured)].cpu.median
    first = all_ * watched.first / watched.cpu
    forecast = {count: bench.files / max(first, all_ / count) for count in (1, 2, 4, 8, 16)}
    cells = [(_cores(count), rounded(value)) for count, value in forecast.items()]
    title = f"forecast from CPU: {rounded(first)} s in the process that decides, of {rounded(all_)} s in all"
    print_table(title, ("", "files/s"), cells)
    return {"measured": list(measured.values()), "forecast": forecast, "deciding": first, "all": all_}


def _cores(count: int) -> str:
    return f"{count} core{'' if count == 1 else 's'}"


# -- stages, in this process -----------------------------------------------------------------------------------------


def stages(bench: Bench) -> list[tuple[str, Values]]:
    """CPU microseconds a file of what publishing consists of, each on its own, on one core."""
    with tarfile.open(bench.archive) as archive:
        plain = [file.read() for member in archive if (file := archive.extractfile(member))]
    algorithm, packing = Algorithm.SHA1, Packing.FAST
    stored = [packing.pack(one) for one in plain]

    def put() -> None:
        with tempfile.TemporaryDirectory(dir=bench.work) as directory:
            items = {str(algorithm.digest(one)): one for one in stored}
            begun = time.process_time()
            for _ in DirectoryStore(directory).put_many(Item(f"data/{key[:2]}/{key[2:]}", items[key]) for key in items):
                pass
            putting.append(time.process_time() - begun)

    putting: list[float] = []
    for _ in range(bench.rounds):
        put()
    work: dict[str, Callable[[], object]] = {
        "scan the archive": lambda: sum(1 for _ in open_source(bench.archive).scan(Placement(b""), lambda _: None)),
        "hash the plain bytes": lambda: [blake3(one).digest() for one in plain],
        "deflate": lambda: [packing.pack(one) for one in plain],
        "hash the objects": lambda: [algorithm.digest(one) for one in stored],
    }
    seconds = {name: tuple(times(work[name], bench.rounds)) for name in work} | {"put into a directory": tuple(putting)}
    found = [(name, Values("s", raw).times(1_000_000 / bench.files, "µs")) for name, raw in seconds.items()]
    print_table("stages of small files, each alone on one core", ("", "CPU µs a file"), found)
    return found


def chunker(bench: Bench) -> dict[str, Values]:
    """How fast large files are cut, MB of content per second of CPU on one core, by their kind."""
    found = {}
    for file in sorted(bench.large.glob("*-0")):
        whole = file.read_bytes()
        pieces = [whole[at : at + _READ] for at in range(0, len(whole), _READ)]

        def cut(pieces: list[bytes] = pieces) -> None:
            detector = ChunkDetector(ChunkLimits())
            for piece in pieces:
                detector.feed(piece)

        found[file.name.partition("-")[0]] = Values("s", tuple(times(cut, bench.rounds))).per(len(whole) / _MB, "MB/s")
    print_table("cutting large files into chunks, one core", ("", "MB/s"), found.items())
    least = min(values.median for values in found.values())
    print(f"the goal of {CHUNKER_GOAL} MB/s is {'met' if least >= CHUNKER_GOAL else f'missed: {rounded(least)} MB/s'}")
    return found


def times(work: Callable[[], object], rounds: int) -> Iterator[float]:
    """CPU seconds of each round, after one that does not count."""
    work()
    for _ in range(rounds):
        begun = time.process_time()
        work()
        yield time.process_time() - begun


# -- all of it -------------------------------------------------------------------------------------------------------


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    parser.add_argument(
        "--ten-gigabytes", action="store_true", help="also the memory that 10 GB take, and 20 GB of disk"
    )
    parser.add_argument("--stock", metavar="NAME", help="a repository of the stock server, to be changed by it")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where data are made, and everything is written")
    arguments = parser.parse_args(words)
    of = machine()
    top = data.directory(arguments.data)
    count, size = (QUICK_FILES, QUICK_BYTES) if arguments.quick else (data.SMALL_FILES, data.LARGE_BYTES)
    s3_count = min(count, S3_FILES)
    archive, large = data.small_archive(top, count), data.large_files(top, size)
    s3_archive = data.small_archive(top, s3_count)
    huge = data.large_files(top, TEN_GIGABYTES) if arguments.ten_gigabytes else None
    with tarfile.open(archive) as tar:
        plain = sum(member.size for member in tar)
    with tempfile.TemporaryDirectory(dir=top) as work:
        rounds = 1 if arguments.quick else ROUNDS
        bench = Bench(archive, count, plain, large, size, rounds, Path(work), s3_archive, s3_count)
        found: dict[str, Any] = {
            "files": count,
            "s3_files": s3_count,
            "plain": plain,
            "large": size,
            "rounds": bench.rounds,
        }
        found["small"] = small_files(bench)
        try:
            found["s3"] = small_files_to_s3(bench)
        except StratusError as error:
            print(f"\nnot measured with S3: {error}")
        if arguments.stock:
            found["stock"] = stock(bench, arguments.stock)
        else:
            print("\nnot compared with the stock tools: --stock names a repository of theirs")
        found["large"] = large_files(bench)
        found["memory"] = memory(bench, huge)
        found["scaling"] = scaling(bench, found["small"][0], found["memory"][0])
        found["stages"] = stages(bench)
        found["chunker"] = chunker(bench)
    return write_results("ingest", of, found)


if __name__ == "__main__":
    main()
