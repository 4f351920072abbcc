"""A mounted repository against the same tree in the local file system: look-ups, listings, reads.

*first* is what the kernel has not seen since the mount (objects are in the local cache, the network is no part of it),
*again* what it remembers. The local tree is in the page cache throughout, which is the hardest that can be compared
with. The ratios are what counts; the times depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import stratus
from bench import data
from bench.measuring import STRATUS, Values, machine, print_table, rounded, run, write_results
from stratus.client.mount import mount, umount
from stratus.repository.repository import Repository

FQRN = "bench.example.org"
FILE_SIZE = 4096  # bytes
LARGE = 256  # MiB of one more file
QUICK_LARGE = 4
PER_DIRECTORY = 100
FILES = 10_000
QUICK_FILES = 200
ROUNDS = 5
QUICK_ROUNDS = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that programs do: microseconds (of MiB: per MiB)."""

    name: str
    local: Values
    first: Values
    again: Values


def make_tree(top: Path, files: int, large_size: int) -> None:
    for number in range(files):
        file = top / f"{number // PER_DIRECTORY:04}" / f"{number:06}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.randbytes(FILE_SIZE))
    with (top / "large").open("wb") as large:
        for _ in range(large_size):
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
    size = 0
    while read := os.readv(descriptor, [buffer]):
        size += read
    os.close(descriptor)
    return size >> 20


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


def publish_tree(tree: Path, store: Path) -> Repository:
    keys = store / "keys"
    environment = {"STRATUS_CONFIG": str(store / "config.toml"), "STRATUS_CACHE": str(store / "cache")}
    run([STRATUS, "create", FQRN, str(store), "--keys", str(keys)], environment)
    run([STRATUS, "publish", "--quiet", FQRN, str(tree)], environment)
    return stratus.open(str(store / FQRN), keys / f"{FQRN}.pub")


def compare(
    name: str, tree: Path, mountpoint: Path, cache: Path, repository: Repository, small: list[str], rounds: int
) -> Case:
    """One kind of work in a new mount each round; an extra round before fills the cache."""
    times: list[tuple[float, float, float]] = []
    for _ in range(rounds + 1):
        mount(lambda: repository, mountpoint, cache=cache)
        try:
            tops = (tree, mountpoint, mountpoint)
            local, first, again = (timed(WORK[name], top, small) for top in tops)
            times.append((local, first, again))
        finally:
            umount(mountpoint)
    return Case(name, *(Values("µs", column) for column in zip(*times[1:], strict=True)))


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where everything is written")
    arguments = parser.parse_args(words)
    quick = arguments.quick
    files, large, rounds = (QUICK_FILES, QUICK_LARGE, QUICK_ROUNDS) if quick else (FILES, LARGE, ROUNDS)
    of = machine()
    random.seed(1)
    with tempfile.TemporaryDirectory(dir=data.directory(arguments.data)) as directory:
        top = Path(directory)
        tree, mountpoint, store = (top / name for name in ("tree", "mnt", "store"))
        for made in (tree, mountpoint, store):
            made.mkdir()
        make_tree(tree, files, large)
        repository = publish_tree(tree, store)
        cases = [compare(name, tree, mountpoint, top / "cache", repository, names(files), rounds) for name in WORK]
    print_table(
        f"{files} files of {FILE_SIZE} bytes, µs: median (least-most); × local",
        ("", "local", "first", "×", "again", "×"),
        [
            (
                *(case.name, case.local),
                *(case.first, rounded(case.first.median / case.local.median)),
                *(case.again, rounded(case.again.median / case.local.median)),
            )
            for case in cases
        ],
    )
    return write_results("mount", of, {"files": files, "rounds": rounds, "cases": cases})


if __name__ == "__main__":
    main()
