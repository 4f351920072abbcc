"""Directory trees as sources."""

# ruff: noqa: PTH115, PTH116 - names are bytes, which pathlib does not take

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stratus.formats.entries import Kind, Xattrs
from stratus.ingest.contract import DIRECTORY_SIZE, Body, Draft, File, Placement, Warn
from stratus.ingest.files import unreadable
from stratus.ingest.tree import Tree, check

_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_KINDS = {kind.value: kind for kind in Kind}


class Directory(msgspec.Struct, frozen=True):
    """A directory of this machine; what is in it is published, in the order of names."""

    file: Path

    @property
    def name(self) -> str:
        return str(self.file)

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        """As the contract says. Hard links are known by their inodes."""
        scan = _Scan(os.fsencode(self.file.absolute()), placement, warn)
        try:
            yield from scan.run()
        finally:
            scan.close()


class _Scan:
    def __init__(self, top: bytes, placement: Placement, warn: Warn) -> None:
        self._top = top
        self._placement = placement
        self._tree = Tree(warn)
        self._inodes: dict[tuple[int, int], bytes] = {}  # of files with several names: the first path

    def close(self) -> None:
        self._tree.close()

    def run(self) -> Iterator[Draft]:
        try:
            status = os.stat(self._top)  # it may be a symbolic link
        except OSError as error:
            raise unreadable(self._top, error) from error
        waiting: list[tuple[tuple[bytes, ...], bytes, os.stat_result]] = [((), self._top, status)]  # the last is next
        while waiting:
            parts, file, status = waiting.pop()
            if stat.S_ISDIR(status.st_mode):
                waiting += _content(parts, file)
            path = self._placement.land(parts)
            if path is not None:
                yield from self._drafts(path, file, status)

    def _drafts(self, path: bytes, file: bytes, status: os.stat_result) -> list[Draft]:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        body, target, rdev, size, has_links = None, b"", 0, status.st_size, False
        if kind is Kind.FILE:
            has_links = status.st_nlink > 1
            if has_links:
                inode = (status.st_dev, status.st_ino)
                first = self._inodes.setdefault(inode, path)
                if first is not path:
                    return self._tree.link(path, first)
            body = Body(File(file), size)
        elif kind is Kind.SYMLINK:
            try:
                target = os.readlink(file)
            except OSError as error:
                raise unreadable(file, error) from error
            size = len(target)
        else:
            size = DIRECTORY_SIZE if kind is Kind.DIRECTORY else 0
            rdev = status.st_rdev if kind in _DEVICES else 0
        uid, gid = self._placement.owner or (status.st_uid, status.st_gid)
        xattrs = _xattrs(file) if self._placement.xattrs else ()
        mode = stat.S_IMODE(status.st_mode)
        draft = Draft(path, kind, mode, uid, gid, size, status.st_mtime_ns, target, rdev, xattrs, 0, body)
        if has_links:
            return [self._tree.put(draft)]
        check(draft)  # a directory of this machine does not contradict itself
        return [draft]


def _content(parts: tuple[bytes, ...], file: bytes) -> list[tuple[tuple[bytes, ...], bytes, os.stat_result]]:
    """What is in a directory, by name, the last one first."""
    found = []
    try:
        with os.scandir(file) as entries:
            found = [
                ((*parts, entry.name), file + b"/" + entry.name, entry.stat(follow_symlinks=False)) for entry in entries
            ]
    except OSError as error:
        raise unreadable(error.filename if isinstance(error.filename, bytes) else file, error) from error
    found.sort(reverse=True, key=lambda one: one[0])
    return found


def _xattrs(file: bytes) -> Xattrs:
    try:
        names = os.listxattr(file, follow_symlinks=False)
        return tuple(sorted((os.fsencode(name), os.getxattr(file, name, follow_symlinks=False)) for name in names))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise unreadable(file, error) from error
