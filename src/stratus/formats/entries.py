"""The rows of a tree: what a file, directory, link or device is, and where its bytes are."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from enum import Enum

import msgspec

from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix

Xattrs = tuple[tuple[bytes, bytes], ...]  # sorted by key


class Kind(Enum):
    """What an entry is; the value is the file type in ``st_mode``."""

    DIRECTORY = stat.S_IFDIR
    FILE = stat.S_IFREG
    SYMLINK = stat.S_IFLNK
    FIFO = stat.S_IFIFO
    SOCKET = stat.S_IFSOCK
    CHARACTER = stat.S_IFCHR
    BLOCK = stat.S_IFBLK


class Chunk(msgspec.Struct, frozen=True):
    """One piece of a large file: ``size`` plain bytes from ``offset``."""

    offset: int
    size: int
    digest: Digest


class Content(msgspec.Struct, frozen=True):
    """Where the bytes of a regular file are.

    Attributes:
        algorithm: of all digests here.
        digest: of the object with the whole file; None for a chunked file without one.
        compression: of the objects.
        chunks: contiguous from offset 0, or empty; at least two.
        external: the bytes are fetched by path from elsewhere, no object is in the store.
        direct_io: clients shall not keep the file in the page cache.
    """

    algorithm: Algorithm
    digest: Digest | None
    compression: Compression = Compression.ZLIB
    chunks: tuple[Chunk, ...] = ()
    external: bool = False
    direct_io: bool = False

    def objects(self) -> Iterator[ObjectId]:
        """The objects that must be in the store for the file to be readable."""
        if self.external:
            return
        for chunk in self.chunks:
            yield ObjectId(chunk.digest, Suffix.PARTIAL)
        if self.digest is not None:
            yield ObjectId(self.digest)


class Entry(msgspec.Struct, frozen=True):
    """One row of a tree.

    Attributes:
        path: ``b""`` or ``b"/a/b"``.
        mode: permission bits with setuid, setgid and sticky, without the file type.
        size: bytes of a regular file; of a symlink the length of its target; 4096 for a directory; else 0.
        target: of a symlink, raw.
        rdev: of a device.
        group: regular files with one non-zero group are hard links of each other (in one directory).
        content: of a regular file.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: bytes = b""
    rdev: int = 0
    xattrs: Xattrs = ()
    group: int = 0
    content: Content | None = None

    @property
    def st_mode(self) -> int:
        """Permissions and file type in one, as ``stat`` gives them."""
        return self.mode | self.kind.value


class Transition(Enum):
    """What a directory's row says about nested catalogs; the value is the bit in the catalog's flags."""

    NONE = 0
    MOUNTPOINT = 2  # in the parent: the content is in a nested catalog
    ROOT = 32  # in the nested catalog: its own top
    BIND = 16384  # a snapshot shown at another place


class Row(msgspec.Struct, frozen=True):
    """An entry as a catalog has it: with its link count and its place in the structure of catalogs.

    Attributes:
        links: ``st_nlink``.
        hidden: left out of listings, reachable by name.
    """

    entry: Entry
    links: int = 1
    transition: Transition = Transition.NONE
    hidden: bool = False
