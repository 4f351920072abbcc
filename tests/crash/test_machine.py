"""A machine without space, memory or permission: one line, one hint, and what was published stays whole."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=60,
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


@dataclass(frozen=True, slots=True)
class Quota:
    """A directory that may hold 8 MiB, until it is lifted."""

    directory: Path

    def lift(self) -> None:
        subprocess.run(["btrfs", "qgroup", "limit", "none", self.directory], check=True)


@pytest.fixture
def quota(tmp_path: Path) -> Iterator[Quota]:
    """A subvolume of a small btrfs: its quotas are part of the file system, so that any kernel that has it has them."""
    image, mounted, directory = tmp_path / "image", tmp_path / "mounted", tmp_path / "mounted/limited"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    steps: tuple[list[str | Path], ...] = (
        ["mkfs.btrfs", "-q", image],
        ["mount", "-o", "loop", image, mounted],
        ["btrfs", "quota", "enable", mounted],
        ["btrfs", "subvolume", "create", directory],
        ["btrfs", "qgroup", "limit", "8M", directory],
    )
    try:
        for step in steps:
            try:
                subprocess.run(step, capture_output=True, check=True)
            except FileNotFoundError:
                pytest.skip(f"there is no {step[0]}")
            except subprocess.CalledProcessError as error:
                pytest.skip(f"there can be no quota: {error.stderr.decode().strip()}")
        yield Quota(directory)
    finally:
        if mounted.is_mount():
            subprocess.run(["umount", mounted], check=True)


def test_an_exhausted_quota_publishes_nothing_and_room_heals(quota: Quota, tmp_path: Path) -> None:
    store = _repository(quota.directory / "store")
    machine = Machine.of(tmp_path, store)
    (machine.source / "large").write_bytes(os.urandom(12 * MIB))
    done = machine.run("publish", FQRN, machine.source)
    assert_says_quota(done)
    quota.lift()
    assert not assert_whole(store, machine.after)
    (machine.source / "large").unlink()
    assert machine.publish().returncode == 0
    assert assert_whole(store, machine.after)


@pytest.mark.parametrize("call", ["write", "link", "rename", "open", "mkdir", "fsync"])
def test_a_quota_may_be_exhausted_at_any_call(tmp_path: Path, call: str) -> None:
    """Where quotas are counted differs: bytes, files, or only when the file is flushed."""
    for nth in (1, 3, 6):
        place = tmp_path / f"store{nth}"
        store = _repository(place)
        machine = Machine.of(tmp_path, store)
        done = subprocess.run(
            [sys.executable, "-c", _EXHAUSTED, call, str(nth), "publish", FQRN, machine.source],
            env={**machine.environment, "STORE": str(place)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0 or nth > 1
        if done.returncode != 0:
            assert_says_quota(done)
        assert problems(store) <= {"stale_reflog"}
        landed = assert_whole(store, machine.after)
        assert landed == (done.returncode == 0)
        assert machine.publish().returncode == 0
        assert assert_whole(store, machine.after)
        if landed:
            break  # there were not as many calls


_EXHAUSTED = """
import errno, os, sys
name, left = sys.argv[1], int(sys.argv[2])
real, store, ours = getattr(os, name), os.environ["STORE"].encode(), set()
really_open = os.open

def below(what):
    return os.fsencode(what).startswith(store) if isinstance(what, str | bytes | os.PathLike) else what in ours

def call(what, *more, **options):
    global left
    if below(what) and not (name == "open" and not more[0] & os.O_CREAT):
        left -= 1
        if left <= 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return real(what, *more, **options)

def opened(path, *more, **options):
    descriptor = (call if name == "open" else really_open)(path, *more, **options)
    if below(path):
        ours.add(descriptor)
    else:
        ours.discard(descriptor)
    return descriptor

setattr(os, name, call)
os.open = opened
from stratus.cli.main import main
sys.exit(main(sys.argv[3:]))
"""


def assert_says_quota(done: subprocess.CompletedProcess[str]) -> None:
    assert_one_line_and_hint(done, 5)
    assert "Disk quota exceeded" in done.stderr
    assert "the quota is exhausted" in done.stderr


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
        assert_heals(store, before | newer)
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


@pytest.mark.parametrize("limit", [30, 40, 45, 50, 60, 63, 66, 70, 80, 100, 120, 150, 200])
def test_too_little_memory_is_one_line(tmp_path: Path, limit: int) -> None:
    """In one process and in several, with a file that is cut and with many: it ends in order, and can be repeated."""
    store = _repository(tmp_path / "store")
    machine = Machine.of(tmp_path, store)
    for number in range(250):
        (machine.source / f"many{number}").write_bytes(b"%d" % number)
    _publishes_or_says_why(machine, store, limit, machine.source, "--workers", "1")
    (machine.source / "large").write_bytes(os.urandom(20 * MIB))
    _publishes_or_says_why(machine, store, limit, machine.source, "--workers", "2")
    _publishes_or_says_why(machine, store, limit, machine.source / "large")
    put(store, {"between": b""})  # what was submitted before memory ran out is published now
    assert_heals(store)
    tops = {stat.key.split("/")[2] for stat in store.list(f".stratus/{FQRN}/")}
    assert not tops & {"claims", "queue"}
    assert not [path for path in (tmp_path / "store/.stratus-tmp").rglob("*") if len(path.name) == 32]


def _publishes_or_says_why(machine: Machine, store: DirectoryStore, limit: int, *words: str | Path) -> None:
    before = content(store)
    done = _limited(machine, resource.RLIMIT_AS, limit * MIB, "publish", FQRN, *words)
    if done.returncode != 0:
        assert_one_line_and_hint(done, 1)
        assert "memory" in done.stderr or "threads" in done.stderr
        assert before.keys() <= content(store).keys()
    assert problems(store) <= {"stale_reflog"}


@pytest.mark.parametrize("verb", ["ls", "check"])
def test_too_little_memory_to_read_is_one_line(tmp_path: Path, verb: str) -> None:
    machine = Machine.of(tmp_path, _repository(tmp_path / "store"))
    for limit in (30, 38, 40, 42, 46, 50, 62, 70):
        done = _limited(machine, resource.RLIMIT_AS, limit * MIB, verb, FQRN)
        if done.returncode != 0:
            assert_one_line_and_hint(done, 1)
            assert "memory" in done.stderr


def test_too_little_memory_is_json_for_programs(tmp_path: Path) -> None:
    machine = Machine.of(tmp_path, _repository(tmp_path / "store"))
    done = _limited(machine, resource.RLIMIT_AS, 40 * MIB, "info", FQRN, "--json")
    assert_one_line_and_json(done, 1, "memory")
    assert set(json.loads(done.stdout)) == {"code", "message", "hint", "path"}


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
