"""What a file system has to answer, and how the kernel's requests become calls of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from typing_extensions import Buffer

from stratus.client.fuse import protocol
from stratus.client.fuse.protocol import Opcode


class Later(msgspec.Struct, frozen=True):
    """An answer that must be waited for.

    Attributes:
        work: may take long and changes nothing that the kernel knows of; runs in a thread.
        finish: makes the reply of what ``work`` gave; not called if the one who asked was killed meanwhile.
    """

    work: Callable[[], Any]
    finish: Callable[[Any], Buffer]


Reply = Buffer | Later


class FileSystem(Protocol):
    """A read-only file system. Nodes are numbers that the kernel learnt from LOOKUP or READDIRPLUS; 1 is the root.

    Called by the loop, one call at a time, so nothing here may wait: what has to is returned as ``Later``. Replies are
    the packed structures of ``protocol``. Any method may raise OSError, whose errno is the answer; other exceptions
    answer EIO.
    """

    def lookup(self, parent: int, name: bytes) -> Reply:
        """``protocol.entry`` or ``no_entry``; counts as one look-up until it is forgotten."""
        ...

    def forget(self, node: int, lookups: int) -> None:
        """The kernel drops that many of its look-ups; nobody waits for an answer, and none is given."""
        ...

    def getattr(self, node: int) -> Reply:
        """``protocol.attr_reply``."""
        ...

    def readlink(self, node: int) -> Reply:
        """The target."""
        ...

    def open(self, node: int) -> Reply:
        """``protocol.open_reply``; the file is opened for reading."""
        ...

    def read(self, node: int, offset: int, size: int) -> Reply:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        ...

    def opendir(self, node: int) -> Reply:
        """``protocol.open_reply`` with a handle for ``readdir``."""
        ...

    def readdir(self, node: int, handle: int, offset: int, size: int, plus: bool) -> Reply:
        """Entries from ``offset`` on, at most ``size`` bytes; empty at the end. ``plus``: each one is looked up."""
        ...

    def releasedir(self, handle: int) -> None:
        """The handle is not used again."""
        ...

    def getxattr(self, node: int, name: bytes) -> Reply:
        """The value. Raises ENODATA."""
        ...

    def listxattr(self, node: int) -> list[bytes]:
        """The names."""
        ...


def call(filesystem: FileSystem, opcode: int, node: int, body: bytes) -> Reply | None:
    """Answers one request; None where the kernel waits for no answer. Raises OSError, also for what is not offered."""
    made = _CALLS.get(opcode)
    if made is None:
        raise OSError(errno.EROFS if opcode in protocol.WRITING else errno.ENOSYS, "not offered")
    return made(filesystem, node, body)


def _forget(filesystem: FileSystem, node: int, body: bytes) -> None:
    filesystem.forget(node, protocol.FORGET_IN.unpack_from(body)[0])


def _forget_many(filesystem: FileSystem, _: int, body: bytes) -> None:
    count, _ = protocol.BATCH_FORGET_IN.unpack_from(body)
    start = protocol.BATCH_FORGET_IN.size
    for forgotten, lookups in protocol.FORGET_ONE.iter_unpack(body[start : start + count * protocol.FORGET_ONE.size]):
        filesystem.forget(forgotten, lookups)


def _open(filesystem: FileSystem, node: int, body: bytes) -> Reply:
    flags, _ = protocol.OPEN_IN.unpack_from(body)
    if flags & os.O_ACCMODE != os.O_RDONLY:
        raise OSError(errno.EROFS, "read-only file system")
    return filesystem.open(node)


def _read(filesystem: FileSystem, node: int, body: bytes) -> Reply:
    _, offset, size, _ = protocol.READ_IN.unpack_from(body)
    return filesystem.read(node, offset, size)


def _readdir(plus: bool) -> _Call:
    def made(filesystem: FileSystem, node: int, body: bytes) -> Reply:
        handle, offset, size, _ = protocol.READ_IN.unpack_from(body)
        return filesystem.readdir(node, handle, offset, size, plus)

    return made


def _releasedir(filesystem: FileSystem, _: int, body: bytes) -> Reply:
    filesystem.releasedir(protocol.RELEASE_IN.unpack_from(body)[0])
    return b""


def _access(_filesystem: FileSystem, _node: int, body: bytes) -> Reply:
    # Only asked where the kernel does not check permissions itself.
    if protocol.ACCESS_IN.unpack_from(body)[0] & os.W_OK:
        raise OSError(errno.EROFS, "read-only file system")
    return b""


def _getxattr(filesystem: FileSystem, node: int, body: bytes) -> Reply:
    size, _ = protocol.GETXATTR_IN.unpack_from(body)
    value = filesystem.getxattr(node, body[protocol.GETXATTR_IN.size : -1])
    if isinstance(value, Later):
        finish = value.finish
        return Later(value.work, lambda result: _sized(finish(result), size))
    return _sized(value, size)


def _listxattr(filesystem: FileSystem, node: int, body: bytes) -> Reply:
    size, _ = protocol.GETXATTR_IN.unpack_from(body)
    return _sized(b"".join(name + b"\0" for name in filesystem.listxattr(node)), size)


def _sized(value: Buffer, size: int) -> Buffer:
    """The value if the caller has room for it; its length if the caller asks for that with size 0."""
    length = memoryview(value).nbytes
    if size == 0:
        return protocol.GETXATTR_OUT.pack(length, 0)
    if length > size:
        raise OSError(errno.ERANGE, "the value is longer than the caller's buffer")
    return value


_Call = Callable[[FileSystem, int, bytes], Reply | None]
_CALLS: dict[int, _Call] = {
    Opcode.LOOKUP: lambda filesystem, node, body: filesystem.lookup(node, body[:-1]),
    Opcode.FORGET: _forget,
    Opcode.BATCH_FORGET: _forget_many,
    Opcode.GETATTR: lambda filesystem, node, body: filesystem.getattr(node),
    Opcode.READLINK: lambda filesystem, node, body: filesystem.readlink(node),
    Opcode.OPEN: _open,
    Opcode.READ: _read,
    Opcode.RELEASE: lambda filesystem, node, body: b"",
    Opcode.OPENDIR: lambda filesystem, node, body: filesystem.opendir(node),
    Opcode.READDIR: _readdir(plus=False),
    Opcode.READDIRPLUS: _readdir(plus=True),
    Opcode.RELEASEDIR: _releasedir,
    Opcode.STATFS: lambda filesystem, node, body: protocol.statfs_reply(),
    Opcode.ACCESS: _access,
    Opcode.GETXATTR: _getxattr,
    Opcode.LISTXATTR: _listxattr,
}
