"""The kernel's side of the wire: operation codes, flags and structures of ``/dev/fuse``.

Everything is in native byte order with the sizes of ``linux/fuse.h``. The structures used here have not changed since
protocol 7.23; what came later is negotiated by flags in INIT.
"""

from __future__ import annotations

import struct
from enum import IntEnum

ROOT = 1  # the node of the root directory
NAME_MAX = 255
NO_ID = 0xFFFFFFFF
NOBODY = 65534
RECEIVE_SIZE = 1 << 17  # what one read of the device may give; the kernel wants at least MAX_WRITE and a header
MAX_WRITE = 4096
BLOCK_SIZE = 4096

MAJOR = 7
MINOR = 31  # the newest protocol whose structures are spoken here
OLDEST_MINOR = 23


class Opcode(IntEnum):
    """The operations of the kernel; those that are not here answer ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    COPY_FILE_RANGE = 47
    TMPFILE = 51


WRITING = frozenset(
    {
        Opcode.SETATTR,
        Opcode.SYMLINK,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.UNLINK,
        Opcode.RMDIR,
        Opcode.RENAME,
        Opcode.LINK,
        Opcode.WRITE,
        Opcode.SETXATTR,
        Opcode.REMOVEXATTR,
        Opcode.CREATE,
        Opcode.FALLOCATE,
        Opcode.RENAME2,
        Opcode.COPY_FILE_RANGE,
        Opcode.TMPFILE,
    }
)

# INIT flags
ASYNC_READ = 1 << 0
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
EXPLICIT_INVAL_DATA = 1 << 25

# READDIRPLUS is adaptive: the first piece of every listing comes with attributes, the others only for those who use
# them, so that a bare listing of a huge directory does not make the kernel (and us) remember every entry.
# OPEN is answered, not waived (NO_OPEN_SUPPORT), because its reply says which files bypass the page cache.
_WANTED = (
    ASYNC_READ | DO_READDIRPLUS | READDIRPLUS_AUTO | PARALLEL_DIROPS | MAX_PAGES | CACHE_SYMLINKS | EXPLICIT_INVAL_DATA
)
_MAX_PAGES = 256  # 1 MiB a read; the kernel's own limit unless an administrator raised it
_MAX_READAHEAD = 1 << 20
_MAX_BACKGROUND = 64
_CONGESTION = 48

# Flags of an OPEN or OPENDIR reply
DIRECT_IO = 1 << 0
KEEP_CACHE = 1 << 1
CACHE_DIR = 1 << 3
NO_FLUSH = 1 << 5

IN_HEADER = struct.Struct("=IIQQIIIHH")  # len opcode unique node uid gid pid extension-length padding
OUT_HEADER = struct.Struct("=IiQ")  # len -errno unique
INIT_IN = struct.Struct("=IIII")  # major minor max_readahead flags
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
FORGET_IN = struct.Struct("=Q")  # lookups
BATCH_FORGET_IN = struct.Struct("=II")  # count padding, then that many of the next
FORGET_ONE = struct.Struct("=QQ")  # node lookups
OPEN_IN = struct.Struct("=II")  # flags open_flags
OPEN_OUT = struct.Struct("=QII")  # handle flags padding
READ_IN = struct.Struct("=QQII")  # handle offset size read_flags; the rest does not matter here
RELEASE_IN = struct.Struct("=Q")  # handle
GETXATTR_IN = struct.Struct("=II")  # size padding, then the name
GETXATTR_OUT = struct.Struct("=II")
ACCESS_IN = struct.Struct("=I")
INTERRUPT_IN = struct.Struct("=Q")  # unique of the request that is interrupted
STATFS_OUT = struct.Struct("=QQQQQIII28x")  # blocks free available files free-files block-size name-max fragment-size
ATTR = struct.Struct("=QQQqqqIIIIIIIIII")
_ATTR_OUT = struct.Struct("=QII")
_ENTRY_OUT = struct.Struct("=QQQQII")
_DIRENT = struct.Struct("=QQII")
ENTRY_SIZE = _ENTRY_OUT.size + ATTR.size  # of what READDIRPLUS puts before each name


def attributes(inode: int, size: int, mtime_ns: int, mode: int, links: int, uid: int, gid: int, rdev: int) -> bytes:
    """``struct fuse_attr``; ctime and atime are the mtime, blocks are of 512 bytes.

    An owner of -1, which the stock tools write where a tar names none, is shown as nobody: the kernel takes it for no
    user at all, and then even root may not look into the directory.
    """
    seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
    return ATTR.pack(
        inode,
        size,
        (size + 511) >> 9,
        seconds,
        seconds,
        seconds,
        nanoseconds,
        nanoseconds,
        nanoseconds,
        mode,
        links,
        NOBODY if uid == NO_ID else uid,
        NOBODY if gid == NO_ID else gid,
        rdev & 0xFFFFFFFF,
        BLOCK_SIZE,
        0,
    )


def entry(node: int, attr: bytes, keep: int) -> bytes:
    """The reply to LOOKUP: the kernel may believe name and attributes for ``keep`` seconds."""
    return _ENTRY_OUT.pack(node, 0, keep, keep, 0, 0) + attr


def no_entry(keep: int) -> bytes:
    """The reply to LOOKUP of a name that is not there, to be believed for ``keep`` seconds."""
    return _ENTRY_OUT.pack(0, 0, keep, 0, 0, 0) + bytes(ATTR.size)


def attr_reply(attr: bytes, keep: int) -> bytes:
    """The reply to GETATTR."""
    return _ATTR_OUT.pack(keep, 0, 0) + attr


def no_lookup() -> bytes:
    """What READDIRPLUS says of a name that it only lists; unlike in a reply to LOOKUP, the name is there."""
    return bytes(ENTRY_SIZE)


def dirent(inode: int, name: bytes, mode: int, offset: int) -> bytes:
    """One entry of a READDIR reply, with ``entry`` or ``no_lookup`` before it one of READDIRPLUS.

    ``offset`` is where the next entry is.
    """
    return _DIRENT.pack(inode, offset, len(name), mode >> 12) + name + bytes(-len(name) % 8)


def open_reply(handle: int, flags: int) -> bytes:
    """The reply to OPEN and OPENDIR."""
    return OPEN_OUT.pack(handle, flags, 0)


def statfs_reply() -> bytes:
    """The reply to STATFS: nothing is free, names have up to 255 bytes."""
    return STATFS_OUT.pack(0, 0, 0, 0, 0, BLOCK_SIZE, NAME_MAX, BLOCK_SIZE)


def init_reply(body: bytes) -> bytes | None:
    """The reply to INIT; None if the kernel's protocol is too old to be spoken."""
    major, minor, max_readahead, flags = INIT_IN.unpack_from(body)
    if major < MAJOR or (major == MAJOR and minor < OLDEST_MINOR):
        return None
    if major > MAJOR:  # the kernel asks again with the version that it is told
        return INIT_OUT.pack(MAJOR, MINOR, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return INIT_OUT.pack(
        MAJOR,
        min(minor, MINOR),
        min(max_readahead, _MAX_READAHEAD),
        flags & _WANTED,
        _MAX_BACKGROUND,
        _CONGESTION,
        MAX_WRITE,
        1,  # time stamps count nanoseconds
        _MAX_PAGES,
        0,
        0,
    )
