from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stratus.client.cache import Cache
from stratus.errors import BadFormat, StoreError, StratusError
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, ObjectId, Suffix

ZLIB = Compression.ZLIB


def named(data: bytes) -> ObjectId:
    return ObjectId(Algorithm.SHA1.digest(data))


class Origin:
    """What is fetched from, and how often it was."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {named(data): data for data in contents}
        self.fetches = 0

    def __call__(self, object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        self.fetches += 1
        try:
            return self.contents[object_id]
        except KeyError:
            raise StoreError("not to be had") from None


def content(descriptor: int | None) -> bytes:
    assert descriptor is not None
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


def files(directory: Path) -> set[bytes]:
    return {file.read_bytes() for file in directory.glob("??/*")}


def test_an_object_is_fetched_once_and_found_afterwards(tmp_path: Path) -> None:
    origin = Origin(b"data")
    cache = Cache(tmp_path / "a/cache", origin)
    assert cache.find(named(b"data"), 4) is None
    assert content(cache.open(named(b"data"), 4, ZLIB)) == b"data"
    assert content(cache.open(named(b"data"), 4, ZLIB)) == b"data"
    assert content(Cache(tmp_path / "a/cache", origin).find(named(b"data"), None)) == b"data"
    assert origin.fetches == 1


def test_files_are_named_as_the_stock_client_does(tmp_path: Path) -> None:
    name = ObjectId(Algorithm.SHAKE128.digest(b"x"), Suffix.CATALOG)
    cache = Cache(tmp_path, lambda *_: b"x")
    os.close(cache.open(name, 1, ZLIB))
    text = str(name.digest)
    assert (tmp_path / text[:2] / text[2:]).read_bytes() == b"x"
    assert cache.path(name) == str(tmp_path / text[:2] / text[2:])
    assert list((tmp_path / "txn").iterdir()) == []


def test_a_file_of_a_wrong_size_is_fetched_again(tmp_path: Path) -> None:
    origin = Origin(b"whole")
    cache = Cache(tmp_path, origin)
    os.close(cache.open(named(b"whole"), 5, ZLIB))
    Path(cache.path(named(b"whole"))).write_bytes(b"wh")
    assert cache.find(named(b"whole"), 5) is None
    assert content(cache.open(named(b"whole"), 5, ZLIB)) == b"whole"


def test_an_object_of_a_wrong_size_is_refused_and_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, Origin(b"whole"))
    with pytest.raises(BadFormat, match="holds 5 bytes where 6"):
        cache.open(named(b"whole"), 6, ZLIB)
    assert files(tmp_path) == set()


def test_threads_share_one_fetch(tmp_path: Path) -> None:
    origin = Origin(b"data")
    everybody = threading.Barrier(8)

    def slow(object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        time.sleep(0.1)
        return origin(object_id, compression, size)

    cache = Cache(tmp_path, slow)

    def read(_: int) -> bytes:
        everybody.wait()
        return content(cache.open(named(b"data"), 4, ZLIB))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [b"data"] * 8
    assert origin.fetches == 1


def test_a_failed_fetch_fails_for_all_who_wait_and_can_be_repeated(tmp_path: Path) -> None:
    origin = Origin()
    everybody = threading.Barrier(4)

    def slow(object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        time.sleep(0.1)
        return origin(object_id, compression, size)

    cache = Cache(tmp_path, slow)

    def fails(_: int) -> bool:
        everybody.wait()
        try:
            cache.open(named(b"data"), 4, ZLIB)
        except StoreError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fails, range(4)))
    assert origin.fetches == 1
    origin.contents[named(b"data")] = b"data"
    assert content(cache.open(named(b"data"), 4, ZLIB)) == b"data"


def test_over_the_limit_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    contents = [b"%d" % number * 1000 for number in range(10)]
    cache = Cache(tmp_path, Origin(*contents), limit=9500)
    now = time.time()
    for age, data in enumerate(contents[:9]):
        os.close(cache.open(named(data), 1000, ZLIB))
        used = now - 5000 + age
        os.utime(cache.path(named(data)), (used, used))
    assert len(files(tmp_path)) == 9
    held = cache.open(named(contents[1]), 1000, ZLIB)
    os.close(cache.open(named(contents[0]), 1000, ZLIB))  # which makes it the one used last
    os.utime(cache.path(named(contents[1])), (0, 0))
    os.close(cache.open(named(contents[9]), 1000, ZLIB))
    assert files(tmp_path) == {contents[0], *contents[7:]}
    assert content(held) == contents[1]


def test_an_object_larger_than_the_limit_can_be_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path, Origin(b"x" * 5000), limit=1000)
    assert content(cache.open(named(b"x" * 5000), 5000, ZLIB)) == b"x" * 5000


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "txn").mkdir()
    for name, age in (("old", 7200), ("young", 10)):
        (tmp_path / "txn" / name).write_bytes(b"half")
        os.utime(tmp_path / "txn" / name, (time.time() - age,) * 2)
    Cache(tmp_path, Origin())
    assert [path.name for path in (tmp_path / "txn").iterdir()] == ["young"]


def test_an_unusable_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StratusError, match="cannot be made") as caught:
        Cache(tmp_path / "file", Origin())
    assert "choose another directory" in caught.value.hint
