"""A machine without space, memory or permission: one line, one hint, and what was published stays whole."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.client.cache import Cache
from stratus.errors import StratusError
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.stores.directory import DirectoryStore
from tests.crash.processes import BEFORE, Machine, assert_heals, assert_one_line_and_hint, assert_whole, problems
from tests.repositories import FQRN, content, new_repository, put

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "stratus-test", directory], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", directory], check=True)


def _repository(directory: Path) -> DirectoryStore:
    store = DirectoryStore(directory)
    new_repository(store)
    put(store, BEFORE)
    return store


def _limited(machine: Machine, kind: int, limit: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command under a limit of the kernel."""
    return subprocess.run(
        [sys.executable, "-m", "stratus", *map(str, words)],
        env={**machine.environment, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
    )


def test_a_full_disk_below_the_store_publishes_nothing_and_space_heals(small_disk: Path, tmp_path: Path) -> None:
    store = _repository(small_disk / "store")
    machine = Machine.of(tmp_path, store)
    large = machine.source / "large"
    large.write_bytes(os.urandom(4 * MIB))
    done = machine.run("publish", FQRN, machine.source)
    assert_one_line_and_hint(done, 5)
    assert "No space left on device" in done.stderr
    assert not assert_whole(store, machine.after)
    large.unlink()
    assert machine.publish().returncode == 0
    assert assert_whole(store, machine.after)


def test_a_disk_may_run_full_at_any_byte(small_disk: Path) -> None:
    """Whatever is left of it, a publish lands or does not."""
    store = _repository(small_disk / "store")
    filler = small_disk / "filler"
    outcomes = set()
    for left in range(0, 120_000, 12_000):
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(max(0, free - left)))
        before = content(store)
        newer: dict[str, bytes | None] = {f"n{number}": os.urandom(500) for number in range(4)}
        try:
            put(store, newer)
            outcomes.add("published")
        except StratusError as error:
            outcomes.add(error.code)
        filler.unlink()
        assert content(store) in (before, before | newer)
        assert problems(store) <= {"stale_reflog"}
        assert_heals(store)
    assert outcomes == {"published", "store"}


def test_a_full_disk_below_the_cache_stops_no_reader_and_leaves_nothing_half(small_disk: Path) -> None:
    objects = {ObjectId(Algorithm.SHA1.digest(plain)): plain for plain in (b"small", bytes(4 * MIB))}
    cache = Cache(small_disk / "cache", lambda object_id, *_: objects[object_id])
    for object_id, plain in [*objects.items(), *objects.items()]:
        descriptor = cache.open(object_id, len(plain), Compression.NONE)
        assert os.pread(descriptor, len(plain), 0) == plain
        os.close(descriptor)
    assert list((small_disk / "cache" / "txn").iterdir()) == []


def test_nothing_needs_a_temporary_directory(small_disk: Path, tmp_path: Path) -> None:
    store = _repository(tmp_path / "store")
    machine = Machine.of(tmp_path, store)
    (small_disk / "filler").write_bytes(bytes(3 * MIB))
    done = machine.publish({"TMPDIR": str(small_disk), "SQLITE_TMPDIR": str(small_disk)})
    assert done.returncode == 0, done
    assert assert_whole(store, machine.after)


def test_a_store_that_is_mounted_read_only_is_read_and_says_what_it_is(small_disk: Path, tmp_path: Path) -> None:
    store = _repository(small_disk / "store")
    machine = Machine.of(tmp_path, store)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert machine.run("cat", f"{FQRN}:/kept").stdout == "kept"
    assert machine.run("check", FQRN).returncode == 0
    done = machine.publish()
    assert_one_line_and_json(done, 5, "Read-only file system")
    assert_one_line_and_hint(machine.run("publish", FQRN, machine.source), 5)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert not assert_whole(store, machine.after)


def assert_one_line_and_json(done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.count("\n") == 1
    assert said in done.stdout


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    machine = Machine.of(tmp_path, _repository(tmp_path / "store"))
    for words in (["ls", FQRN], ["cat", f"{FQRN}:/kept"], ["info", FQRN, "--json"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "stratus", *words],
                env=machine.environment,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert_one_line_and_hint(done, 1)


def test_memory_is_bounded_whatever_the_size_of_a_file(tmp_path: Path) -> None:
    store = _repository(tmp_path / "store")
    machine = Machine.of(tmp_path, store)
    with (machine.source / "large").open("wb") as large:
        large.truncate(320 * MIB)
    done = _limited(machine, resource.RLIMIT_AS, 300 * MIB, "publish", FQRN, machine.source)
    assert done.returncode == 0, done


@pytest.mark.parametrize("limit", [30])
def test_too_little_memory_is_one_line(tmp_path: Path, limit: int) -> None:
    store = _repository(tmp_path / "store")
    machine = Machine.of(tmp_path, store)
    (machine.source / "large").write_bytes(os.urandom(20 * MIB))
    done = _limited(machine, resource.RLIMIT_AS, limit * MIB, "publish", FQRN, machine.source)
    assert_one_line_and_hint(done, 1)
    assert "memory" in done.stderr or "threads" in done.stderr  # whichever is short first
    assert not assert_whole(store, machine.after)


def test_a_limit_on_the_size_of_files_is_one_line(tmp_path: Path) -> None:
    store = _repository(tmp_path / "store")
    machine = Machine.of(tmp_path, store)
    (machine.source / "large").write_bytes(os.urandom(2 * MIB))
    done = _limited(machine, resource.RLIMIT_FSIZE, MIB, "publish", FQRN, machine.source)
    assert_one_line_and_hint(done, 5)
    assert "File too large" in done.stderr
    assert not assert_whole(store, machine.after)
    assert_heals(store)


def test_too_few_open_files_are_one_line(tmp_path: Path) -> None:
    machine = Machine.of(tmp_path, _repository(tmp_path / "store"))
    done = _limited(machine, resource.RLIMIT_NOFILE, 5, "publish", FQRN, machine.source)
    assert done.returncode in (1, 2, 5)
    assert "Traceback" not in done.stderr
