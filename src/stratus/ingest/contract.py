"""What a source is and what it yields, and where the objects that are made of it go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Packing
from stratus.formats.entries import Content, Entry, Kind, Xattrs
from stratus.formats.hashes import Algorithm, ObjectId, Suffix

DIRECTORY_SIZE = 4096  # bytes, of every directory; nobody relies on it

Warn = Callable[[str], None]
"""Hears of what cannot be published as it is."""

Progress = Callable[[int, int, int | None, int | None], None]
"""Is told files and bytes so far, and of how many in all once that is known."""


class NewObject(msgspec.Struct, frozen=True):
    """An object to be stored: its name, its bytes, and how many bytes it has when unpacked."""

    id: ObjectId
    stored: bytes
    plain_size: int


class Policy(msgspec.Struct, frozen=True):
    """How a repository wants content.

    Attributes:
        limits: None leaves every file in one piece, held in memory as a whole.
        catalog_weight: rows from which on a catalog is cut in pieces; 0 leaves them as they are.
    """

    algorithm: Algorithm
    packing: Packing
    limits: ChunkLimits | None
    catalog_weight: int = 50_000


class Placement(msgspec.Struct, frozen=True):
    """Where a source's content lands.

    Attributes:
        path: the directory in the repository.
        owner: user and group id of every entry; None keeps the source's.
        strip_components: how many leading components names lose; what has no more than these is left out.
        xattrs: whether extended attributes come along.
    """

    path: bytes
    owner: tuple[int, int] | None = None
    strip_components: int = 0
    xattrs: bool = False

    def land(self, parts: Sequence[bytes]) -> bytes | None:
        """The path in the repository of a name in the source; None for what is left out, like the root itself."""
        if not parts and not self.strip_components:
            return self.path or None
        kept = parts[self.strip_components :] if self.strip_components else parts
        return self.path + b"/" + b"/".join(kept) if kept else None


class File(NamedTuple):
    """A file of this machine that any process here can read.

    ``identity`` (device, inode, size, time of the last change in ns) is given where the file must stay as it is while
    it is read; None for one that is read as a whole, whatever it holds by then.
    """

    path: bytes
    identity: tuple[int, int, int, int] | None = None


class Body:
    """The bytes of a regular file, and what has become of them; hard links share one.

    Attributes:
        where: a file, or the bytes themselves: all of them, or blocks that can be iterated once, before the source is
            asked for more.
        offset: in the file where they begin.
        size: in bytes, as far as it is known.
        content: once they are packed.
        path: of an entry that needs them, once it is packed.
        number: that whoever collects contents gives it; -1 before.
        changed: whether the size was another one when it was read.
    """

    __slots__ = ("changed", "content", "number", "offset", "path", "size", "where")

    def __init__(self, where: File | bytes | Iterator[bytes], size: int, offset: int = 0, number: int = -1) -> None:
        self.where = where
        self.offset = offset
        self.size = size
        self.content: Content | None = None
        self.path = b""
        self.number = number
        self.changed = False


class Draft(NamedTuple):
    """An entry whose content is still to be packed; the fields are those of ``Entry``."""

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
    body: Body | None = None

    def entry(self) -> Entry:
        """The entry, once the content is there."""
        path, kind, mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group, body = self
        if body is None:
            return Entry(path, kind, mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group)
        return Entry(path, kind, mode, uid, gid, body.size, mtime_ns, target, rdev, xattrs, group, body.content)


class Source(Protocol):
    """Where new content comes from."""

    @property
    def name(self) -> str:
        """For messages."""

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        """Drafts with their final paths.

        A later one replaces an earlier one at the same path. Ancestors that the source does not have are not yielded.
        Raises BadSource.
        """


class Packed(NamedTuple):
    """An object that was made.

    Attributes:
        key: of its plain bytes: their hash, and the letter of its name.
        digest: the hash of the stored bytes.
        plain_size, stored_size: in bytes.
        path: of an entry that needs it.
    """

    key: bytes
    digest: bytes
    suffix: Suffix
    plain_size: int
    stored_size: int
    path: bytes


class Uploader(Protocol):
    """Stores objects, in whichever process it is called; what it gives goes to ``Delivery.sent``."""

    def __call__(self, objects: Sequence[NewObject]) -> Any:
        """Raises StoreError."""


class Delivery(Protocol):
    """Where the objects of one publish go. Its methods are called in the order of the content, by one thread."""

    @property
    def uploader(self) -> Uploader:
        """What the objects are handed to."""

    @property
    def anywhere(self) -> bool:
        """Whether the uploader can be pickled and used in other processes."""

    def recall(self, keys: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes | None]:
        """The digests of objects with these plain bytes that are known to be stored; None for others."""

    def wanted(self, objects: Sequence[Packed]) -> list[int]:
        """The indices of those that the uploader shall get; the others are stored already."""

    def sent(self, objects: Sequence[Packed], report: Any) -> None:
        """The uploader was called with these and gave ``report``."""

    def keep(self, objects: Sequence[NewObject]) -> None:
        """Stores what nobody has yet and no file is made of: catalogs. Raises StoreError."""
