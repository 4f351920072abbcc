"""A mount shows new revisions without being mounted again."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from stratus.formats.entries import Row
from tests.client.conftest import Mounted, eventually
from tests.client.trees import MTIME_NS, SmallRepository, directory, symlink, xattrs

POLL = 0.1


def test_changed_removed_and_added_files(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"old"), repository.file(b"/d/gone", b"1")])
    mounted.start(POLL)
    assert (mounted / "d/f").read_bytes() == b"old"
    assert (mounted / "d/gone").exists()
    assert not (mounted / "d/new").exists()
    assert mounted.names("d") == ["f", "gone"]
    inode = (mounted / "d/f").stat().st_ino
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"newer"), repository.file(b"/d/new", b"2")])
    mounted.follow_to(2)
    assert (mounted / "d/f").read_bytes() == b"newer"
    assert (mounted / "d/f").stat().st_size == 5
    assert (mounted / "d/f").stat().st_ino == inode
    assert not (mounted / "d/gone").exists()
    assert (mounted / "d/new").read_bytes() == b"2"
    assert mounted.names("d") == ["f", "new"]
    assert os.getxattr(mounted.directory, "user.revision") == b"2"


def test_an_open_file_keeps_its_content(repository: SmallRepository, mounted: Mounted) -> None:
    old, new = (random.Random(seed).randbytes(3_000_000) for seed in (1, 2))
    repository.publish([repository.file(b"/f", old, chunk=1_000_000)])
    mounted.start(POLL)
    with (
        (mounted / "f").open("rb", buffering=0) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        assert file.read(100) == old[:100]
        assert view[:100] == old[:100]
        repository.publish([repository.file(b"/f", new, chunk=1_000_000)])
        mounted.follow_to(2)
        assert (mounted / "f").read_bytes() == new
        assert os.pread(file.fileno(), 3_000_000, 0) == old
        assert hashlib.sha1(view[:]).digest() == hashlib.sha1(old).digest()
        assert (mounted / "f").read_bytes() == new
        assert os.fstat(file.fileno()).st_size == len(old)


def test_content_of_equal_size_and_time_is_told_apart(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/f", b"aaaa")])
    mounted.start(POLL)
    for revision, data in enumerate((b"bbbb", b"aaaa", b"cccc"), 2):
        repository.publish([repository.file(b"/f", data)])
        mounted.follow_to(revision)
        assert (mounted / "f").read_bytes() == data


def test_attributes_change_without_losing_cached_pages(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/f", b"same", mode=0o644, xattrs=xattrs(colour="red"))])
    mounted.start(POLL)
    assert os.getxattr(mounted / "f", "user.colour") == b"red"
    with (mounted / "f").open("rb") as file:
        assert file.read() == b"same"
        changed = repository.file(b"/f", b"same", mode=0o755, mtime_ns=MTIME_NS + 1, xattrs=xattrs(colour="blue"))
        repository.publish([changed])
        mounted.follow_to(2)
        found = os.fstat(file.fileno())
        assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o755, MTIME_NS + 1)
        assert (mounted / "f").stat() == found
    assert os.getxattr(mounted / "f", "user.colour") == b"blue"


def test_types_change(repository: SmallRepository, mounted: Mounted) -> None:
    rows = {
        "file": repository.file(b"/x", b"file"),
        "directory": directory(b"/x"),
        "symlink": symlink(b"/x", b"below"),
    }
    below = repository.file(b"/x/below", b"1")
    repository.publish([rows["file"]])
    mounted.start(POLL)
    path = mounted / "x"
    for revision, kind in enumerate(("directory", "symlink", "file", "symlink", "directory", "file"), 2):
        os.lstat(path)
        repository.publish([rows[kind], below] if kind == "directory" else [rows[kind]])
        mounted.follow_to(revision)
        assert (path.is_symlink(), path.is_dir()) == (kind == "symlink", kind == "directory")
        if kind == "file":
            assert path.read_bytes() == b"file"
        elif kind == "symlink":
            assert path.readlink() == Path("below")
        else:
            assert (path / "below").read_bytes() == b"1"


def test_a_link_that_points_elsewhere(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([symlink(b"/l", b"one")])
    mounted.start(POLL)
    assert (mounted / "l").readlink() == Path("one")
    repository.publish([symlink(b"/l", b"two")])
    mounted.follow_to(2)
    assert (mounted / "l").readlink() == Path("two")


def test_hard_links_change_by_all_their_names(repository: SmallRepository, mounted: Mounted) -> None:
    def linked(data: bytes, *names: str) -> list[Row]:
        return [repository.file(f"/{name}".encode(), data, group=1, links=len(names)) for name in names]

    repository.publish(linked(b"old", "a", "b", "c"))
    mounted.start(POLL)
    assert [(mounted / name).read_bytes() for name in "abc"] == [b"old"] * 3
    repository.publish(linked(b"new!", "a", "b"))
    mounted.follow_to(2)
    assert [(mounted / name).read_bytes() for name in "ab"] == [b"new!"] * 2
    assert not (mounted / "c").exists()
    assert (mounted / "b").stat().st_nlink == 2
    repository.publish(linked(b"new!", "b", "d"))
    mounted.follow_to(3)
    assert mounted.names() == ["b", "d"]
    assert not (mounted / "a").exists()
    assert (mounted / "d").read_bytes() == b"new!"


def test_a_working_directory_survives(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"1")])
    mounted.start(POLL)
    top = os.open(mounted / "d", os.O_PATH)
    try:
        repository.publish([directory(b"/d", mtime_ns=1), repository.file(b"/d/g", b"2")])
        mounted.follow_to(2)
        assert mounted.names(f"/proc/self/fd/{top}") == ["g"]
        assert os.stat("g", dir_fd=top).st_size == 1
        repository.publish([])
        mounted.follow_to(3)
        with pytest.raises(FileNotFoundError):
            os.stat("g", dir_fd=top)
        repository.publish([directory(b"/d"), repository.file(b"/d/h", b"3")])
        mounted.follow_to(4)
        assert (mounted / "d/h").read_bytes() == b"3"
    finally:
        os.close(top)


def test_an_open_directory_is_read_anew_when_it_is_rewound(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(f"/a{number}".encode(), b"") for number in range(500)])
    mounted.start(POLL)
    with os.scandir(mounted.directory) as listing:
        first = next(listing).name
        repository.publish([repository.file(f"/b{number}".encode(), b"") for number in range(500)])
        mounted.follow_to(2)
        rest = [entry.name for entry in listing]
    assert len({first, *rest}) == 500
    for _ in range(2):
        assert mounted.names() == sorted(f"b{number}" for number in range(500))


def test_nested_catalogs_appear_change_and_go(repository: SmallRepository, mounted: Mounted) -> None:
    def rows(data: bytes) -> list[Row]:
        return [directory(b"/n"), directory(b"/n/m"), repository.file(b"/n/m/f", data), directory(b"/other")]

    repository.publish(rows(b"1"))
    mounted.start(POLL)
    states = [[b"/n"], [b"/n", b"/n/m"], [b"/n/m"], [], [b"/n/m"], [b"/other"]]
    for revision, nested in enumerate(states, 2):
        mounted.names("n/m")
        (mounted / "n/m/f").read_bytes()
        data = b"%d" % revision
        repository.publish(rows(data), nested)
        mounted.follow_to(revision)
        assert (mounted / "n/m/f").read_bytes() == data
        assert mounted.names("n/m") == ["f"]


def test_only_changed_catalogs_are_loaded(repository: SmallRepository, mounted: Mounted) -> None:
    rows = [directory(b"/one"), directory(b"/two"), repository.file(b"/one/f", b"1"), repository.file(b"/two/f", b"1")]
    repository.publish(rows, [b"/one", b"/two"])
    mounted.start(POLL)
    subprocess.run(["find", mounted.directory], check=True, capture_output=True)
    assert os.getxattr(mounted.directory, "user.nclg") == b"3"
    repository.publish([*rows[:3], repository.file(b"/two/f", b"2")], [b"/one", b"/two"])
    mounted.follow_to(2)
    assert os.getxattr(mounted.directory, "user.nclg") == b"2"
    assert (mounted / "two/f").read_bytes() == b"2"
    assert (mounted / "one/f").read_bytes() == b"1"


def test_a_failing_store_delays_but_does_not_end_it(
    repository: SmallRepository, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratus.client.following._FIRST_RETRY", 0.1)
    repository.publish([repository.file(b"/f", b"1")])
    mounted.start(POLL)
    assert (mounted / "f").read_bytes() == b"1"
    repository.break_store()
    repository.publish([repository.file(b"/f", b"2")])
    eventually(lambda: mounted.log().count("still at revision 1: the store is broken") > 1)
    assert (mounted / "f").read_bytes() == b"1"
    repository.break_store(False)
    mounted.follow_to(2)
    assert (mounted / "f").read_bytes() == b"2"


def test_readers_see_one_revision_or_the_other_under_load(repository: SmallRepository, mounted: Mounted) -> None:
    def publish(revision: int) -> None:
        data = b"%d" % revision * 5000
        files = [repository.file(b"/d/f%d" % number, data) for number in range(revision % 3, 20)]
        repository.publish([directory(b"/d", mtime_ns=revision), *files])

    publish(1)
    mounted.start(0.02)
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            for name in mounted.names("d"):
                try:
                    data = (mounted / "d" / name).read_bytes()
                except FileNotFoundError:
                    continue
                if len(set(data)) != 1 or len(data) != 5000:
                    wrong.append((name, len(data), set(data)))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for revision in range(2, 9):
            time.sleep(0.1)
            publish(revision)
        mounted.follow_to(8)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert (mounted / "d/f19").read_bytes() == b"8" * 5000
    assert len(mounted.names("d")) == 18


def test_a_stopped_reader_does_not_stop_the_following(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/f", b"1")])
    mounted.start(POLL)
    with subprocess.Popen(["sleep", "60"], cwd=mounted.directory) as busy:
        busy.send_signal(signal.SIGSTOP)
        try:
            repository.publish([repository.file(b"/f", b"22")])
            mounted.follow_to(2)
            assert (mounted / "f").read_bytes() == b"22"
        finally:
            busy.kill()
