"""What goes wrong around a mount: the network, the disk under the cache, files in it, very many readers."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratus.client.mount import mount, umount
from stratus.errors import StoreError
from stratus.stores.directory import DirectoryStore
from stratus.stores.http import HttpStore
from tests import repositories
from tests.client.conftest import Mounted, eventually
from tests.client.trees import SmallRepository, directory
from tests.client.unprivileged import run_unprivileged


@contextmanager
def served(store: Path, port: int = 0) -> Iterator[int]:
    """A web server in a process of its own, killed in the end; gives its port."""
    line = [sys.executable, "-m", "stratus", "serve", str(store), "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r":([0-9]+)/", server.stdout.readline())
            assert found is not None
            yield int(found[1])
        finally:
            server.kill()


def fails_with_eio(file: Path) -> bool:
    try:
        file.read_bytes()
    except OSError as error:
        return error.errno == errno.EIO
    return False


def test_the_network_goes_and_comes_back(mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratus.stores.retries._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("stratus.client.following._FIRST_RETRY", 0.1)
    (tmp_path / "store").mkdir()
    store = repositories.new_repository(DirectoryStore(tmp_path / "store"))
    repositories.put(store, {"cached": b"1", "other": b"2"})
    with served(tmp_path / "store") as port:
        mounted.repository = repositories.reader(HttpStore(f"http://127.0.0.1:{port}/cvmfs"))
        mounted.start(poll=0.2)
        assert (mounted / "cached").read_bytes() == b"1"
    assert fails_with_eio(mounted / "other")
    assert (mounted / "cached").read_bytes() == b"1"
    assert mounted.names() == ["cached", "other"]
    eventually(lambda: "still at revision 2: no answer from http://127.0.0.1" in mounted.log())
    assert "READ failed: no answer from http://127.0.0.1" in mounted.log()
    repositories.put(store, {"new": b"3"})
    with served(tmp_path / "store", port):
        mounted.follow_to(3)
        assert [(mounted / name).read_bytes() for name in ("cached", "other", "new")] == [b"1", b"2", b"3"]
    mounted.end()
    with pytest.raises(StoreError, match=r"no answer from http://127\.0\.0\.1") as caught:
        mounted.start()
    assert "can be reached" in caught.value.hint
    assert mounted.names() == []


def test_damaged_files_in_the_cache_are_healed(repository: SmallRepository, mounted: Mounted) -> None:
    data = random.Random(1).randbytes(300_000)
    repository.publish([directory(b"/d"), repository.file(b"/d/f", data, chunk=100_000)], nested=[b"/d"])
    mounted.start()
    assert (mounted / "d/f").read_bytes() == data
    mounted.end()
    for number, file in enumerate(sorted(mounted.cache.glob("??/*"))):
        os.truncate(file, number % 2 * file.stat().st_size // 2)
    mounted.start()
    assert (mounted / "d/f").read_bytes() == data


def test_a_catalog_that_is_none_any_more_is_fetched_again(repository: SmallRepository, mounted: Mounted) -> None:
    snapshot = repository.publish([repository.file(b"/f", b"1")])
    mounted.start()
    mounted.end()
    file = mounted.cache / snapshot.root.hex[:2] / snapshot.root.hex[2:]
    file.write_bytes(bytes(file.stat().st_size))
    mounted.start()
    assert (mounted / "f").read_bytes() == b"1"
    assert file.read_bytes().startswith(b"SQLite")


def test_two_mounts_share_a_cache(repository: SmallRepository, mounted: Mounted, tmp_path: Path) -> None:
    contents = {f"f{number}": random.Random(number).randbytes(20_000) for number in range(20)}
    repository.publish([repository.file(f"/{name}".encode(), data) for name, data in contents.items()])
    (tmp_path / "second").mkdir()
    mounted.start()
    mount(lambda: repository, tmp_path / "second", cache=mounted.cache, limit=100_000)
    try:
        for _ in range(2):  # the second one evicts what the first one reads
            for name, data in contents.items():
                assert (tmp_path / "second" / name).read_bytes() == (mounted / name).read_bytes() == data
        assert {file.stat().st_size for file in mounted.cache.glob("??/*")} <= {20_000, repository.latest().root_size}
        umount(tmp_path / "second")
        assert (mounted / "f0").read_bytes() == contents["f0"]
    finally:
        if (tmp_path / "second").is_mount():
            umount(tmp_path / "second")


def test_two_hundred_readers_at_once(repository: SmallRepository, mounted: Mounted) -> None:
    contents = {f"f{number}": random.Random(number).randbytes(100_000) for number in range(20)}
    repository.publish([repository.file(f"/{name}".encode(), data, chunk=30_000) for name, data in contents.items()])
    mounted.start()
    readers = [
        subprocess.Popen(["cat", mounted / name], stdout=subprocess.PIPE) for _ in range(10) for name in contents
    ]
    for number, reader in enumerate(readers):
        assert reader.communicate()[0] == contents[f"f{number % 20}"]
        assert reader.returncode == 0
    assert len(repository.fetched()) == 1 + 20 * 4  # the catalog and the chunks, each once


_FULL_DISK = """
    import encodings.idna, os, random
    from stratus.client.mount import mount, umount
    from tests.client.trees import SmallRepository, directory
    from tests.client.unprivileged import become_ordinary, mount_tmpfs
    top = become_ordinary()
    mnt, cache = top / "mnt", top / "cache"
    mnt.mkdir()
    cache.mkdir()
    mount_tmpfs(cache, "1m")
    contents = {f"d/f{number}": random.Random(number).randbytes(200_000) for number in range(10)}
    contents["d/large"] = random.Random(0).randbytes(3_000_000)
    repository = SmallRepository(top / "repository")
    files = [repository.file(b"/" + name.encode(), data) for name, data in contents.items()]
    repository.publish([directory(b"/d"), *files], nested=[b"/d"])

    def check():
        for name, data in contents.items():
            assert (mnt / name).read_bytes() == data

    mount(lambda: repository, mnt, cache=cache)
    check()
    check()
    kept = {file.stat().st_size for file in cache.glob("??/*")}
    assert 200_000 in kept and 3_000_000 not in kept
    assert repository.fetched().count(str(files[-1].entry.content.digest)) == 1
    assert list((cache / "txn").iterdir()) == []
    log = next(cache.glob("*.log")).read_text()
    assert "cannot be written: No space left on device; reading goes on without it" in log
    umount(mnt)
    for file in cache.glob("??/*"):
        file.unlink()
    blocks = os.statvfs(cache)
    (cache / "ballast").write_bytes(bytes(blocks.f_bavail * blocks.f_bsize))
    mount(lambda: repository, mnt, cache=cache)
    check()
    umount(mnt)
    assert list(cache.glob("??/*")) == list((cache / "txn").iterdir()) == []
    print("all read")
"""


def test_with_a_full_disk_reading_goes_on(mounted: Mounted) -> None:
    assert run_unprivileged(_FULL_DISK, user_namespace=True) == "all read\n"
