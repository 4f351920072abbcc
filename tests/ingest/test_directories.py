from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from stratus.errors import BadSource
from stratus.formats.entries import Kind
from stratus.ingest.contract import Placement
from stratus.ingest.directories import Directory
from tests.ingest.reading import read


def test_what_is_in_the_directory_lands_at_the_path(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o750)
    (tmp_path / "bin" / "tool").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "bin" / "tool").chmod(0o4755)
    os.utime(tmp_path / "bin" / "tool", ns=(0, 1_234_567_890_123_456_789))
    (tmp_path / "link").symlink_to("bin/tool")
    tmp_path.chmod(0o711)
    result = read(Directory(tmp_path), Placement(b"/sw/v1"))
    assert result.order == [b"/sw/v1", b"/sw/v1/bin", b"/sw/v1/bin/tool", b"/sw/v1/link"]
    top, directory, tool, link = result.entries.values()
    assert (top.kind, top.mode, top.size) == (Kind.DIRECTORY, 0o711, 4096)
    assert (directory.kind, directory.mode, directory.size) == (Kind.DIRECTORY, 0o750, 4096)
    assert (tool.kind, tool.mode, tool.size) == (Kind.FILE, 0o4755, 10)
    assert tool.mtime_ns == 1_234_567_890_123_456_789
    assert (tool.uid, tool.gid) == (os.getuid(), os.getgid())
    assert (link.kind, link.target, link.size) == (Kind.SYMLINK, b"bin/tool", 8)
    assert result.plain(b"/sw/v1/bin/tool") == b"#!/bin/sh\n"
    assert result.warnings == []


def test_at_the_root_of_the_repository_the_directory_itself_is_no_entry(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert read(Directory(tmp_path)).order == [b"/a"]


def test_the_directory_may_be_named_by_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "link").symlink_to("real")
    result = read(Directory(tmp_path / "link"), Placement(b"/x"))
    assert {path: entry.kind for path, entry in result.entries.items()} == {b"/x": Kind.DIRECTORY, b"/x/a": Kind.FILE}


def test_names_and_targets_are_bytes(tmp_path: Path) -> None:
    names = [b"latin1-\xe9\xff", b"new\nline", b"x" * 255]
    for name in names:
        (tmp_path / os.fsdecode(name)).symlink_to(os.fsdecode(b"to-\xff-" + name[:9]))
    entries = read(Directory(tmp_path)).entries
    assert {path: entry.target for path, entry in entries.items()} == {
        b"/" + name: b"to-\xff-" + name[:9] for name in names
    }


def test_special_files_are_published(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o640)
    here = Path.cwd()
    os.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
    finally:
        os.chdir(here)
    entries = read(Directory(tmp_path)).entries
    assert (entries[b"/fifo"].kind, entries[b"/fifo"].size) == (Kind.FIFO, 0)
    assert (entries[b"/socket"].kind, entries[b"/socket"].size) == (Kind.SOCKET, 0)


def test_hard_links_in_one_directory_share_a_group_and_one_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    (tmp_path / "d").write_bytes(b"data")
    result = read(Directory(tmp_path))
    assert {path: entry.group for path, entry in result.entries.items()} == {b"/a": 1, b"/b": 1, b"/c": 1, b"/d": 0}
    assert result.order == [b"/a", b"/a", b"/b", b"/c", b"/d"]
    assert len({entry.content for entry in result.entries.values()}) == 1
    assert result.warnings == []


def test_hard_links_into_another_directory_are_files_of_their_own(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    (tmp_path / "x" / "a").write_bytes(b"data")
    (tmp_path / "y" / "b").hardlink_to(tmp_path / "x" / "a")
    (tmp_path / "y" / "c").hardlink_to(tmp_path / "x" / "a")
    result = read(Directory(tmp_path))
    assert result.entries[b"/x/a"].group == 0
    assert result.entries[b"/y/b"].group == result.entries[b"/y/c"].group == 1
    assert result.plain(b"/y/c") == b"data"
    assert result.warnings == [
        "/y/b: a hard link to /x/a in another directory, published as a file of its own",
    ]


def test_owner_and_stripped_components_follow_the_placement(tmp_path: Path) -> None:
    (tmp_path / "pkg" / "lib").mkdir(parents=True)
    (tmp_path / "pkg" / "lib" / "a").touch()
    entries = read(Directory(tmp_path), Placement(b"/x", owner=(7, 8), strip_components=1)).entries
    assert list(entries) == [b"/x/lib", b"/x/lib/a"]
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(7, 8)}


def test_extended_attributes_are_read_only_if_the_policy_wants_them(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    try:
        os.setxattr(file, "user.z", b"2")
        os.setxattr(file, "user.b", b"1\0")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    assert read(Directory(tmp_path)).entries[b"/a"].xattrs == ()
    assert read(Directory(tmp_path), Placement(b"", xattrs=True)).entries[b"/a"].xattrs == (
        (b"user.b", b"1\0"),
        (b"user.z", b"2"),
    )


def test_markers_are_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / ".cvmfscatalog").touch()
    assert read(Directory(tmp_path)).entries[b"/.cvmfscatalog"].kind is Kind.FILE


def test_a_file_that_grows_while_it_is_read_has_the_size_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"one")
    real = os.open

    def open_late(file: bytes, flags: int) -> int:
        with (tmp_path / "log").open("ab") as log:
            log.write(b" two")
        return real(file, flags)

    monkeypatch.setattr("stratus.ingest.directories.os.open", open_late)
    result = read(Directory(tmp_path))
    assert result.entries[b"/log"].size == 7
    assert len(result.warnings) == 1


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").touch()

    def refuse(file: bytes, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stratus.ingest.directories.os.open", refuse)
    with pytest.raises(BadSource, match="secret cannot be read: Permission denied") as caught:
        read(Directory(tmp_path))
    assert caught.value.hint


def test_a_directory_that_vanished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="nothing-here cannot be read: No such file"):
        read(Directory(tmp_path / "nothing-here"))
