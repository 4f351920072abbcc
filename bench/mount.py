"""A mounted repository against the same tree in the local file system: look-ups, listings, reads.

*first* is what the kernel has not seen since the mount (objects are in the local cache, the network is no part of it),
*again* what it remembers. The local tree is in the page cache throughout, which is the hardest that can be compared
with. The ratios are what counts; the times depend on the machine. Usage: mount.py [FILES]
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from stratus.client.mount import mount, umount
from stratus.formats.records import Settings
from stratus.ingest.sources import open_source
from stratus.repository.creation import create
from stratus.repository.repository import Repository
from stratus.stores.directory import DirectoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import publish

FQRN = "bench.example.org"
FILE_SIZE = 4096  # bytes
LARGE_SIZE = 256 << 20
PER_DIRECTORY = 100
ROUNDS = 5
RESULTS = Path(__file__).parent / "results" / "mount.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that programs do, median times in microseconds (of MiB: per MiB)."""

    name: str
    local: float
    first: float
    again: float


def make_tree(top: Path, files: int) -> None:
    for number in range(files):
        file = top / f"{number // PER_DIRECTORY:04}" / f"{number:06}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.randbytes(FILE_SIZE))
    with (top / "large").open("wb") as large:
        for _ in range(LARGE_SIZE >> 20):
            large.write(random.randbytes(1 << 20))


def names(files: int) -> list[str]:
    """Of the small files, in an order that no read-ahead guesses."""
    shuffled = [f"{number // PER_DIRECTORY:04}/{number:06}" for number in range(files)]
    random.shuffle(shuffled)
    return shuffled


def look_up(top: str, small: list[str]) -> int:
    for name in small:
        os.stat(f"{top}/{name}")  # noqa: PTH116 (the call itself is measured)
    return len(small)


def look_up_absent(top: str, small: list[str]) -> int:
    for name in small:
        os.access(f"{top}/{name}.so", os.F_OK)
    return len(small)


def read_small(top: str, small: list[str]) -> int:
    for name in small:
        descriptor = os.open(f"{top}/{name}", os.O_RDONLY)
        os.read(descriptor, FILE_SIZE)
        os.close(descriptor)
    return len(small)


def walk(top: str, _: list[str]) -> int:
    return sum(len(directories) + len(files) for _, directories, files in os.walk(top))


def read_large(top: str, _: list[str]) -> int:
    buffer = bytearray(1 << 20)
    descriptor = os.open(f"{top}/large", os.O_RDONLY)
    while os.readv(descriptor, [buffer]):
        pass
    os.close(descriptor)
    return LARGE_SIZE >> 20


WORK: dict[str, Callable[[str, list[str]], int]] = {
    "look-up": look_up,
    "look-up of what is not there": look_up_absent,
    "open, read 4 KiB, close": read_small,
    "listing, per entry": walk,
    "sequential read, per MiB": read_large,
}


def timed(work: Callable[[str, list[str]], int], top: Path, small: list[str]) -> float:
    """Microseconds for one of what the work counts."""
    begun = time.perf_counter()
    done = work(str(top), small)
    return (time.perf_counter() - begun) / done * 1e6


def publish_tree(tree: Path, store: DirectoryStore) -> Repository:
    keys = RepositoryKeys.generate(FQRN)
    create(store, FQRN, keys, Settings())
    writer = DirectWriter(store, FQRN, keys, "bench")
    publish(writer, FQRN, b"", [open_source(tree)], writer.name)
    return Repository(store, FQRN, [keys.public_key])


def compare(name: str, tree: Path, mountpoint: Path, cache: Path, repository: Repository, small: list[str]) -> Case:
    """One kind of work in a new mount each round; an extra round before fills the cache."""
    times: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS + 1):
        mount(lambda: repository, mountpoint, cache=cache)
        try:
            tops = (tree, mountpoint, mountpoint)
            local, first, again = (timed(WORK[name], top, small) for top in tops)
            times.append((local, first, again))
        finally:
            umount(mountpoint)
    return Case(name, *(statistics.median(column) for column in zip(*times[1:], strict=True)))


def main(files: int) -> None:
    random.seed(1)
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        tree, mountpoint, store = (top / name for name in ("tree", "mnt", "store"))
        for made in (tree, mountpoint, store):
            made.mkdir()
        make_tree(tree, files)
        repository = publish_tree(tree, DirectoryStore(store))
        print(f"{files} files of {FILE_SIZE} bytes, median of {ROUNDS} rounds, µs (× local)")
        print(f"{'':30}{'local':>8}{'first':>16}{'again':>16}")
        cases = []
        for name in WORK:
            case = compare(name, tree, mountpoint, top / "cache", repository, names(files))
            first, again = (f"{value:8.1f} ({value / case.local:4.1f})" for value in (case.first, case.again))
            print(f"{name:30}{case.local:8.1f}{first:>16}{again:>16}", flush=True)
            cases.append(case)
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"files": files, "kernel": platform.release(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({**found, "cases": [asdict(case) for case in cases]}, indent=2) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
