"""Content to measure with, made of what every Linux machine with Python has; cached in a directory.

Which files are taken depends on the machine alone: they are sorted. The directory is the one given, or that of
``STRATUS_BENCH_DATA``, or one below the system's directory of temporary files; what the benchmarks write goes to the
same disk.
"""

from __future__ import annotations

import contextlib
import os
import random
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import count, islice
from pathlib import Path

SMALL_FILES = 20_000
LARGE_BYTES = 1_000_000_000
_ROOTS = ("/usr/bin", "/usr/include", "/usr/lib", "/usr/share", *map(sysconfig.get_path, ("stdlib", "purelib")))
_MEAN = 17_000  # bytes of a small file, nearly
_CAPS = tuple(1 << power for power in range(12, 23))  # the largest small file, bytes
_TEXT = (".c", ".h", ".hpp", ".html", ".json", ".md", ".py", ".rst", ".txt", ".xml")
_BLOCK = 1 << 20
_PARTS = (("code", 6), ("text", 2), ("random", 2))  # tenths, which are files
_MTIME = 1_790_000_000


def directory(given: Path | None = None) -> Path:
    """Where data are kept, made if it is not there."""
    default = Path(tempfile.gettempdir()) / f"stratus-bench-{os.getuid()}"
    chosen = given or Path(os.environ.get("STRATUS_BENCH_DATA") or default)
    chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
    return chosen


def small_archive(top: Path, files: int = SMALL_FILES) -> Path:
    """One plain archive of so many files, whole directories of them, 17 kB in the mean: as a software tree is.

    Where the machine has fewer files, they come again with a number in front.
    """
    archive = top / f"tree-{files}.tar"
    if archive.exists():
        return archive
    chosen = _choose(files)
    with _finished(archive) as unfinished, tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
        made: set[str] = set()
        for number in range(files):
            path = chosen[number % len(chosen)]
            again = number // len(chosen)
            data = (b"%d\n" % again if again else b"") + path.read_bytes()
            name = f"tree-{again}/{_short(path)}"
            _add_directories(tar, name, made)
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o755 if os.access(path, os.X_OK) else 0o644, _MTIME
            tar.addfile(member, BytesIO(data))
    return archive


def many_entries(top: Path, files: int) -> Path:
    """An archive of so many files of a few bytes, of a thousand different contents, a hundred in a directory."""
    archive = top / f"many-{files}.tar"
    if archive.exists():
        return archive
    with _finished(archive) as unfinished, unfinished.open("wb") as file:
        for number in range(files):
            data = b"%d\n" % (number % 1000)
            member = tarfile.TarInfo(f"p{number // 10_000:03}/d{number // 100 % 100:03}/f{number % 100:03}")
            member.size, member.mode, member.mtime = len(data), 0o644, _MTIME
            file.write(member.tobuf(tarfile.GNU_FORMAT) + data.ljust(tarfile.BLOCKSIZE, b"\0"))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return archive


def _add_directories(tar: tarfile.TarFile, name: str, made: set[str]) -> None:
    for above in reversed(Path(name).parents[:-1]):
        if str(above) not in made:
            made.add(str(above))
            member = tarfile.TarInfo(str(above))
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, _MTIME
            tar.addfile(member)


def _short(path: Path) -> Path:
    """Without what is above the directory that it was found in, as an installation has it."""
    root = next(root for root in _roots() if path.is_relative_to(root))
    return Path(root.name) / path.relative_to(root)


def _choose(files: int) -> list[Path]:
    """Whole directories from everywhere; of the largest sizes that are taken, what brings the mean closest to ours."""
    sizes = {path: size for path, size in _found() if 0 < size <= _CAPS[-1]}

    def error(cap: int) -> float:
        fit = [size for size in sizes.values() if size <= cap]
        return abs(sum(fit) / len(fit) - _MEAN) if fit else _MEAN

    cap = min(_CAPS, key=error)
    by_directory: dict[Path, list[Path]] = {}
    for path in sorted(path for path, size in sizes.items() if size <= cap):
        by_directory.setdefault(path.parent, []).append(path)
    step = max(1, sum(map(len, by_directory.values())) // files)
    directories = sorted(by_directory)
    in_turn = (name for start in range(step) for name in directories[start::step])
    return sorted(islice((path for name in in_turn for path in by_directory[name]), files))


def large_files(top: Path, size: int = LARGE_BYTES) -> Path:
    """A directory of ten files of ``size`` bytes in all: 60 % machine code, 20 % text, 20 % random.

    Where the machine has less, it comes again with a number in each block of a MiB, so that nothing is there twice.
    """
    target = top / f"large-{size}"
    if target.exists():
        return target
    sources = {"code": _blocks(_programs()), "text": _blocks(_texts()), "random": _random()}
    with _finished(target) as unfinished:
        unfinished.mkdir()
        for kind, files in _PARTS:
            for number in range(files):
                with (unfinished / f"{kind}-{number}").open("wb") as file:
                    for _ in range(size // 10 // _BLOCK):
                        file.write(next(sources[kind]))
                    file.write(next(sources[kind])[: size // 10 % _BLOCK])
    return target


def _blocks(paths: Iterable[Path]) -> Iterator[bytes]:
    """The files one after another in blocks of a MiB, then again with a number over the first bytes, without end."""
    kept = list(paths)
    for turn in count():
        block = bytearray()
        for path in kept:
            block += path.read_bytes()
            at = 0
            while at + _BLOCK <= len(block):
                yield _numbered(block[at : at + _BLOCK], turn)
                at += _BLOCK
            del block[:at]
        yield _numbered(block.ljust(_BLOCK, b"\n"), turn)


def _numbered(block: bytearray, turn: int) -> bytes:
    if turn:
        block[:8] = turn.to_bytes(8, "big")
    return bytes(block)


def _random() -> Iterator[bytes]:
    source = random.Random(1)
    while True:
        yield source.randbytes(_BLOCK)


def _programs() -> Iterator[Path]:
    for path, size in _found():
        if size >= 64 << 10:
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def _texts() -> Iterator[Path]:
    return (path for path, size in _found() if size and path.suffix in _TEXT)


def _roots() -> list[Path]:
    """Sorted; none is below another."""
    roots = {Path(root).resolve() for root in _ROOTS}
    return sorted(root for root in roots if roots.isdisjoint(root.parents))


def _found() -> Iterator[tuple[Path, int]]:
    """Regular files that can be read, with their sizes, in an order that depends on their names alone."""
    for root in _roots():
        for top, directories, files in os.walk(root):
            directories.sort()
            for name in sorted(files):
                path = Path(top, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    yield path, path.stat().st_size


@contextlib.contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """A name to write to; what is there afterwards gets its real name, unless writing failed."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    yield unfinished
    unfinished.rename(path)
