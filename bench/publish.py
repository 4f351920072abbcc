"""Publishing many small files, against unpacking the same archive with ``tar``: both to the same disk, in one run.

The ratio is what counts; the times depend on the machine. Usage: publish.py [FILES]
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from stratus.formats.records import Settings
from stratus.ingest.sources import open_source
from stratus.repository.creation import create
from stratus.stores.directory import DirectoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import publish

FQRN = "bench.example.org"
FILE_SIZE = 4096  # bytes, half of them random
PER_DIRECTORY = 100
ROUNDS = 3


def write_archive(file: Path, files: int) -> None:
    random.seed(1)
    with tarfile.open(file, "w") as archive:
        for number in range(files):
            member = tarfile.TarInfo(f"{number // PER_DIRECTORY:04}/{number:06}")
            member.size, member.mode = FILE_SIZE, 0o644
            archive.addfile(member, BytesIO(random.randbytes(FILE_SIZE // 2) + bytes(FILE_SIZE // 2)))


def unpack(archive: Path, directory: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(["tar", "-x", "-f", archive, "-C", directory], check=True)
    return time.perf_counter() - begun


def publish_archive(archive: Path, directory: Path) -> float:
    """Into a repository that holds nothing yet."""
    store = DirectoryStore(directory)
    keys = RepositoryKeys.generate(FQRN)
    create(store, FQRN, keys, Settings())
    writer = DirectWriter(store, FQRN, keys, "bench")
    begun = time.perf_counter()
    publish(writer, FQRN, b"/tree", [open_source(archive)], writer.name)
    return time.perf_counter() - begun


def timed(work: Callable[[Path, Path], float], archive: Path) -> float:
    """Seconds that the work takes in an empty directory."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        return work(archive, Path(directory))


def main(files: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "tree.tar"
        write_archive(archive, files)
        print(f"{files} files of {FILE_SIZE} bytes, median of {ROUNDS} rounds")
        rounds = [(timed(unpack, archive), timed(publish_archive, archive)) for _ in range(ROUNDS)]
    unpacking, publishing = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"tar -x           {unpacking:7.2f} s  {files / unpacking:8.0f} files/s")
    print(f"stratus publish  {publishing:7.2f} s  {files / publishing:8.0f} files/s")
    print(f"ratio            {publishing / unpacking:7.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
