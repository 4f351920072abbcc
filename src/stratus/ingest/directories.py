"""Directory trees as sources."""

# ruff: noqa: PTH115, PTH116, PTH208 - names are bytes, which pathlib does not take

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Xattrs
from stratus.ingest.content import BLOCK_SIZE, Packer
from stratus.ingest.contract import DIRECTORY_SIZE, NewObject, Placement, Policy
from stratus.ingest.tree import Tree

_DEVICES = (Kind.CHARACTER, Kind.BLOCK)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of this machine; what is in it is published, in the order of names."""

    file: Path

    @property
    def name(self) -> str:
        return str(self.file)

    def read(self, policy: Policy, placement: Placement, warn: Callable[[str], None]) -> Iterator[NewObject | Entry]:
        """As the contract says. Hard links are known by their inodes."""
        return _Reading(os.fsencode(self.file), policy, placement, warn).run()


class _Reading:
    def __init__(self, top: bytes, policy: Policy, placement: Placement, warn: Callable[[str], None]) -> None:
        self._top = top
        self._policy = policy
        self._placement = placement
        self._warn = warn
        self._packer = Packer(policy)
        self._tree = Tree(warn)
        self._inodes: dict[tuple[int, int], bytes] = {}  # of files with several names: the first path

    def run(self) -> Iterator[NewObject | Entry]:
        waiting: list[tuple[bytes, ...]] = [()]
        while waiting:
            parts = waiting.pop()
            file = self._top + paths.join(parts)
            try:
                # The top itself may be a symbolic link.
                status = os.stat(file, follow_symlinks=not parts)
                if stat.S_ISDIR(status.st_mode):
                    waiting += [(*parts, name) for name in sorted(os.listdir(file), reverse=True)]
            except OSError as error:
                raise _unreadable(file, error) from error
            path = self._placement.land(parts)
            if path is not None:
                yield from self._entry(path, file, status)

    def _entry(self, path: bytes, file: bytes, status: os.stat_result) -> Iterator[NewObject | Entry]:
        if not stat.S_ISREG(status.st_mode):
            yield from self._tree.put(self._plain(path, file, status))
            return
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and inode in self._inodes:
            yield from self._tree.link(path, self._inodes[inode])
            return
        if status.st_nlink > 1:
            self._inodes[inode] = path
        content, size = yield from self._packer.add(_blocks(file))
        if size != status.st_size:
            self._warn(f"{paths.display(file)} changed while it was read")
        xattrs = _xattrs(file) if self._policy.xattrs else ()
        uid, gid = self._placement.owner or (status.st_uid, status.st_gid)
        mode = stat.S_IMODE(status.st_mode)
        yield from self._tree.put(
            Entry(path, Kind.FILE, mode, uid, gid, size, status.st_mtime_ns, xattrs=xattrs, content=content)
        )

    def _plain(self, path: bytes, file: bytes, status: os.stat_result) -> Entry:
        """The entry of anything but a file."""
        kind = Kind(stat.S_IFMT(status.st_mode))
        try:
            target = os.readlink(file) if kind is Kind.SYMLINK else b""
        except OSError as error:
            raise _unreadable(file, error) from error
        uid, gid = self._placement.owner or (status.st_uid, status.st_gid)
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=uid,
            gid=gid,
            size=DIRECTORY_SIZE if kind is Kind.DIRECTORY else len(target),
            mtime_ns=status.st_mtime_ns,
            target=target,
            rdev=status.st_rdev if kind in _DEVICES else 0,
            xattrs=_xattrs(file) if self._policy.xattrs else (),
        )


def _blocks(file: bytes) -> Iterator[bytes]:
    try:
        # Should it have become a fifo or a symbolic link by now, this neither waits nor follows.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while block := os.read(descriptor, BLOCK_SIZE):
                yield block
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(file, error) from error


def _xattrs(file: bytes) -> Xattrs:
    try:
        names = os.listxattr(file, follow_symlinks=False)
        return tuple(sorted((os.fsencode(name), os.getxattr(file, name, follow_symlinks=False)) for name in names))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise _unreadable(file, error) from error


def _unreadable(file: bytes, error: OSError) -> BadSource:
    return BadSource(
        f"{paths.display(file)} cannot be read: {error.strerror or error}",
        hint="make everything readable for the user who publishes, or leave it out",
    )
