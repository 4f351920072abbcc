"""What programs see of a mounted repository."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stratus.errors import StratusError
from stratus.formats.entries import Content, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from tests.client.conftest import Mounted
from tests.client.trees import MTIME_NS, SmallRepository, directory, row, symlink, xattrs


def test_the_tree_is_listed_and_read(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish(
        [directory(b"/lib"), repository.file(b"/lib/a", b"hello\n"), repository.file(b"/empty", b"")], nested=[b"/lib"]
    )
    mounted.start()
    assert mounted.names() == ["empty", "lib"]
    assert (mounted / "lib/a").read_bytes() == b"hello\n"
    assert (mounted / "empty").read_bytes() == b""
    shown = subprocess.run(["ls", "-la", mounted / "lib"], capture_output=True, check=True, text=True).stdout
    assert [line.split()[-1] for line in shown.splitlines()[1:]] == [".", "..", "a"]


def test_stat_shows_the_row(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish(
        [
            repository.file(b"/file", b"12345", mode=0o4751, uid=1234, gid=4294967295 - 1),
            row(b"/fifo", Kind.FIFO, 0o600),
            row(b"/null", Kind.CHARACTER, 0o666, rdev=os.makedev(1, 3)),
            row(b"/socket", Kind.SOCKET, 0o700),
        ]
    )
    mounted.start()
    found = os.lstat(mounted / "file")
    assert (found.st_mode, found.st_size, found.st_nlink) == (stat.S_IFREG | 0o4751, 5, 1)
    assert (found.st_uid, found.st_gid) == (1234, 4294967294)
    assert found.st_mtime_ns == found.st_ctime_ns == MTIME_NS
    assert stat.S_ISFIFO(os.lstat(mounted / "fifo").st_mode)
    assert stat.S_ISSOCK(os.lstat(mounted / "socket").st_mode)
    assert os.lstat(mounted / "null").st_rdev == os.makedev(1, 3)


def test_awkward_names(repository: SmallRepository, mounted: Mounted) -> None:
    names = [b"latin1-\xe9\xff", b"new\nline", b"x" * 255, "größe".encode(), b" ", b"-rf", b"..."]
    repository.publish([repository.file(b"/" + name, name) for name in names])
    mounted.start()
    top = os.fsencode(mounted.directory)
    assert {os.fsencode(name) for name in mounted.names()} == set(names)
    for name in names:
        assert Path(os.fsdecode(top + b"/" + name)).read_bytes() == name


def test_symlinks_are_followed_and_variables_expanded(
    repository: SmallRepository, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATUS_TEST_NAME", "target")
    repository.publish(
        [
            repository.file(b"/target", b"found"),
            symlink(b"/plain", b"target"),
            symlink(b"/variable", b"$(STRATUS_TEST_NAME)"),
            symlink(b"/default", b"$(STRATUS_TEST_NONE:-target)"),
            symlink(b"/dangling", b"/nowhere\xff"),
        ]
    )
    mounted.start()
    for name in ("plain", "variable", "default"):
        assert (mounted / name).read_bytes() == b"found"
        assert os.lstat(mounted / name).st_size == len("target")
    assert os.fsencode((mounted / "dangling").readlink()) == b"/nowhere\xff"
    assert os.getxattr(mounted / "variable", "xfsroot.rawlink", follow_symlinks=False) == b"$(STRATUS_TEST_NAME)"


def test_hard_links_are_one_inode(repository: SmallRepository, mounted: Mounted) -> None:
    links = [repository.file(path, b"same", group=3, links=2) for path in (b"/one", b"/two")]
    repository.publish([*links, repository.file(b"/three", b"same")])
    mounted.start()
    one, two, three = ((mounted / name).stat() for name in ("one", "two", "three"))
    assert one.st_ino == two.st_ino != three.st_ino
    assert one.st_nlink == 2
    listed = {entry.name: entry.inode() for entry in os.scandir(mounted.directory)}
    assert listed == {"one": one.st_ino, "two": two.st_ino, "three": three.st_ino}


def test_inodes_are_the_same_in_the_next_mount(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"")])
    mounted.start()
    before = [(mounted / name).stat().st_ino for name in ("d", "d/f")]
    mounted.end()
    mounted.start()
    assert [(mounted / name).stat().st_ino for name in ("d/f", "d")] == before[::-1]
    assert all(number < 1 << 48 for number in before)


def test_a_large_chunked_file(repository: SmallRepository, mounted: Mounted) -> None:
    data = random.Random(7).randbytes(5_000_001)
    repository.publish([repository.file(b"/big", data, chunk=700_000)])
    mounted.start()
    with (mounted / "big").open("rb") as file:
        file.seek(1_399_990)
        assert file.read(30) == data[1_399_990:1_400_020]
        file.seek(-10, os.SEEK_END)
        assert file.read(100) == data[-10:]
    assert hashlib.sha1((mounted / "big").read_bytes()).digest() == hashlib.sha1(data).digest()
    assert len(repository.fetched()) == 1 + 8  # catalog and chunks, each once


def test_a_file_can_be_mapped(repository: SmallRepository, mounted: Mounted) -> None:
    data = random.Random(8).randbytes(300_000)
    repository.publish([repository.file(b"/mapped", data, chunk=100_000)])
    mounted.start()
    with (mounted / "mapped").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[99_990:100_010] == data[99_990:100_010]
        assert view[:] == data


def test_a_program_runs_from_the_mount(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish(
        [
            repository.file(b"/true", Path("/bin/true").read_bytes(), mode=0o755, chunk=10_000),
            repository.file(b"/script", b"#!/bin/sh\necho ran\n", mode=0o755),
            repository.file(b"/plain", b"#!/bin/sh\n"),
        ]
    )
    mounted.start()
    subprocess.run([mounted / "true"], check=True)
    assert subprocess.run([mounted / "script"], check=True, capture_output=True).stdout == b"ran\n"
    with pytest.raises(PermissionError):
        subprocess.run([mounted / "plain"], check=True)


def test_files_marked_for_direct_io_are_read(repository: SmallRepository, mounted: Mounted) -> None:
    digest = Algorithm.SHA1.digest(b"direct")
    repository.store(ObjectId(digest), b"direct")
    content = Content(Algorithm.SHA1, digest, direct_io=True)
    repository.publish([row(b"/direct", Kind.FILE, 0o644, size=6, content=content)])
    mounted.start()
    assert (mounted / "direct").read_bytes() == b"direct"
    assert os.getxattr(mounted / "direct", "user.direct_io") == b"1"


def test_errors_are_those_of_a_read_only_file_system(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/file", b"x"), directory(b"/dir")])
    mounted.start()
    file = mounted / "file"

    def code(*call: object) -> int:
        with pytest.raises(OSError) as caught:
            call[0](*call[1:])  # type: ignore[operator]
        assert caught.value.errno is not None
        return caught.value.errno

    assert code(os.stat, mounted / "none") == errno.ENOENT
    assert code(os.stat, mounted / "file/below") == errno.ENOTDIR
    assert code(os.stat, mounted / ("x" * 256)) == errno.ENAMETOOLONG
    assert code(mounted.names, "file") == errno.ENOTDIR
    assert code(os.open, mounted / "dir", os.O_WRONLY) == errno.EISDIR
    assert code(os.open, file, os.O_WRONLY) == errno.EROFS
    assert code(os.open, mounted / "new", os.O_CREAT | os.O_WRONLY) == errno.EROFS
    assert code(os.mkdir, mounted / "new") == errno.EROFS
    assert code(os.unlink, file) == errno.EROFS
    assert code(os.chmod, file, 0o600) == errno.EROFS
    assert code(os.rename, file, mounted / "new") == errno.EROFS
    assert code(os.setxattr, file, "user.new", b"1") == errno.EROFS
    assert code(os.getxattr, file, "user.none") == errno.ENODATA


def test_ten_thousand_entries(repository: SmallRepository, mounted: Mounted) -> None:
    names = [f"entry-{number:05}" for number in range(10_000)]
    files = [row(f"/many/{name}".encode(), Kind.SYMLINK, 0o777, target=b"x") for name in names]
    repository.publish([directory(b"/many"), *files])
    mounted.start()
    assert mounted.names("many") == names
    with os.scandir(mounted / "many") as listing:
        assert {entry.name: entry.is_symlink() for entry in listing} == dict.fromkeys(names, True)
    inodes = {entry.inode() for entry in os.scandir(mounted / "many")}
    assert len(inodes) == 10_000


def test_hidden_names_are_not_listed_but_there(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/.cvmfs", hidden=True), repository.file(b"/.cvmfs/inside", b"1")])
    mounted.start()
    assert mounted.names() == []
    assert (mounted / ".cvmfs/inside").read_bytes() == b"1"


def test_extended_attributes(repository: SmallRepository, mounted: Mounted) -> None:
    own = repository.file(b"/d/f", b"text", xattrs=xattrs(colour="blue"))
    repository.publish([directory(b"/d"), own], nested=[b"/d"])
    mounted.start()
    assert os.listxattr(mounted / "d/f") == ["user.colour"]
    assert os.getxattr(mounted / "d/f", "user.colour") == b"blue"
    assert os.getxattr(mounted / "d/f", "user.hash") == hashlib.sha1(b"text").hexdigest().encode()
    assert os.getxattr(mounted.directory, "user.fqrn") == b"small.example.org"
    assert os.getxattr(mounted.directory, "user.revision") == b"1"
    assert os.getxattr(mounted.directory, "user.root_hash").decode() == str(repository.latest().root)
    assert os.getxattr(mounted.directory, "user.nclg") == b"2"
    assert os.getxattr(mounted.directory, "user.expires") == b"3"
    assert {"user.fqrn", "user.catalog_counters", "user.repo_counters"} <= set(os.listxattr(mounted.directory))
    whole = os.getxattr(mounted.directory, "user.repo_counters")
    assert b"nested,1\nregular,1\n" in whole
    assert os.getxattr(mounted.directory, "user.catalog_counters").endswith(b"catalog_mountpoint: \n" + whole)
    assert b"catalog_mountpoint: /d\n" in os.getxattr(mounted / "d", "user.catalog_counters")
    assert b"nested,0\n" in os.getxattr(mounted / "d/f", "user.catalog_counters")


def test_many_readers_at_once(repository: SmallRepository, mounted: Mounted) -> None:
    contents = {f"f{number}": random.Random(number).randbytes(50_000 + number) for number in range(30)}
    repository.publish([repository.file(f"/{name}".encode(), data, chunk=20_000) for name, data in contents.items()])
    mounted.start()
    repository.delay(0.02)
    names = list(contents) * 4
    random.Random(1).shuffle(names)
    with ThreadPoolExecutor(16) as pool:
        for name, data in zip(names, pool.map(lambda name: (mounted / name).read_bytes(), names), strict=True):
            assert data == contents[name]
    assert len(repository.fetched()) == len(set(repository.fetched()))


def test_a_slow_fetch_does_not_hold_up_others(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/slow", b"1" * 100), repository.file(b"/known", b"2" * 100)])
    mounted.start()
    (mounted / "known").read_bytes()
    repository.delay(1.5)
    slow = threading.Thread(target=(mounted / "slow").read_bytes)
    slow.start()
    assert (mounted / "known").read_bytes() == b"2" * 100
    assert not (mounted / "none").exists()
    assert slow.is_alive()
    slow.join()


def test_a_failed_fetch_is_an_error_that_heals(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([directory(b"/d"), repository.file(b"/d/f", b"here"), repository.file(b"/f", b"top")], [b"/d"])
    mounted.start()
    repository.break_store()
    for name in ("f", "d/f"):
        with pytest.raises(OSError) as caught:
            (mounted / name).read_bytes()
        assert caught.value.errno == errno.EIO
    assert int(os.getxattr(mounted.directory, "user.nioerr")) > 0
    assert "the store is broken" in mounted.log()
    repository.break_store(False)
    assert (mounted / "f").read_bytes() == b"top"
    assert (mounted / "d/f").read_bytes() == b"here"


def test_a_cached_repository_is_read_without_the_store(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([repository.file(b"/f", b"cached")])
    mounted.start()
    assert (mounted / "f").read_bytes() == b"cached"
    mounted.end()
    mounted.start()
    before = repository.fetched()
    assert (mounted / "f").read_bytes() == b"cached"
    assert repository.fetched() == before


def test_external_data_cannot_be_read(repository: SmallRepository, mounted: Mounted) -> None:
    content = Content(Algorithm.SHA1, Algorithm.SHA1.digest(b""), external=True)
    repository.publish([row(b"/outside", Kind.FILE, 0o644, size=9, content=content)])
    mounted.start()
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "outside").read_bytes()


def test_what_cannot_be_opened_is_not_mounted(repository: SmallRepository, mounted: Mounted) -> None:
    repository.publish([])
    repository.break_store()
    with pytest.raises(StratusError, match="the store is broken"):
        mounted.start()
    assert mounted.names() == []
