"""The columns of a catalog's row, to values and back: flags, link counts, extended attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stratus.errors import BadFormat, Rejected
from stratus.formats import paths
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row, Transition, Xattrs
from stratus.formats.hashes import Algorithm, Digest

DIRECTORY = 1
FILE = 4
SYMLINK = 8
SPECIAL = 16
CHUNKED = 64
EXTERNAL = 128
ALGORITHM_SHIFT = 8
COMPRESSION_SHIFT = 11
HIDDEN = 32768
DIRECT_IO = 65536

COLUMNS = (
    "md5path_1",
    "md5path_2",
    "parent_1",
    "parent_2",
    "hardlinks",
    "hash",
    "size",
    "mode",
    "mtime",
    "mtimens",
    "flags",
    "name",
    "symlink",
    "uid",
    "gid",
    "xattr",
)

VALUES = COLUMNS[4:]  # those that the path does not decide

Values = tuple[Any, ...]
"""Of VALUES."""
Chunks = tuple[tuple[int, int, bytes], ...]
"""Offset, size and raw digest of each."""
Raw = tuple[bytes, Values, Chunks]
"""A row as a catalog has it: its path, and what the path does not decide."""

LINKS, MODE, FLAGS, NAME = (VALUES.index(name) for name in ("hardlinks", "mode", "flags", "name"))
GROUP_SHIFT = 32  # the number of a hard-link group is above the link count

TYPE_MASK = 0o170000  # of a mode
DIRECTORY_TYPE = 0o040000
_KINDS = {kind.value: kind for kind in Kind}
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_TRANSITIONS = {transition.value: transition for transition in Transition}
TRANSITIONS = sum(_TRANSITIONS)  # all bits of them
_LINKS_MASK = 0xFFFFFFFF
_NANO = 1_000_000_000
_SHA1, _ZLIB = Algorithm.SHA1, Compression.ZLIB  # both have number 0


def encode(row: Row, parent: tuple[int, int] | None = None) -> tuple[Any, ...]:
    """The values of COLUMNS; names and targets as bytes, to be bound as TEXT.

    ``parent`` are the two halves of the parent's path, where they are known. Raises Rejected for what no row can hold.
    """
    entry = row.entry
    path = entry.path
    content = entry.content
    mtime, mtimens = divmod(entry.mtime_ns, _NANO)
    if parent is None:
        parent = paths.md5_halves(paths.parent(path)) if path else (0, 0)
    return (
        *paths.md5_halves(path),
        *parent,
        (entry.group << 32) | row.links,
        content.digest.raw if content and content.digest else None,
        entry.rdev if entry.kind in _DEVICES else entry.size,
        entry.st_mode,
        mtime,
        mtimens or None,
        _flags(row),
        path[path.rfind(b"/") + 1 :],
        entry.target,
        entry.uid,
        entry.gid,
        pack_xattrs(entry.xattrs, path) if entry.xattrs else None,
    )


def encode_all(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """The values of many rows; those of one directory are best one after another."""
    directory: bytes | None = None
    halves = (0, 0)
    for row in rows:
        path = row.entry.path
        parent = path[: max(path.rfind(b"/"), 0)]
        if parent != directory:
            directory, halves = parent, paths.md5_halves(parent)
        yield encode(row, halves if path else None)


def complete_all(found: Iterable[Raw]) -> list[tuple[Any, ...]]:
    """The values of COLUMNS of many rows; those of one directory are best one after another."""
    directory: bytes | None = None
    parent = (0, 0)
    complete = []
    md5_halves = paths.md5_halves
    for path, values, _ in found:
        above = path[: max(path.rfind(b"/"), 0)]
        if above != directory:
            directory, parent = above, md5_halves(above)
        complete.append((*md5_halves(path), *parent, *values))
    return complete


def raw(row: Row) -> Raw:
    """A row as a catalog has it. Raises Rejected for what no row can hold."""
    content = row.entry.content
    chunks = () if content is None else content.chunks
    values = encode(row, (0, 0))[-len(VALUES) :]
    return row.entry.path, values, tuple((chunk.offset, chunk.size, chunk.digest.raw) for chunk in chunks)


def read(found: Raw) -> Row:
    """The row. Raises BadFormat."""
    path, values, chunks = found
    return decode(path, (0, 0, 0, 0, *values), chunks)


def decode(path: bytes, values: tuple[Any, ...], chunks: tuple[tuple[int, int, bytes], ...] = ()) -> Row:
    """The row at ``path`` from COLUMNS and its chunk rows (offset, size, hash). Raises BadFormat."""
    _, _, _, _, hardlinks, digest, size, mode, mtime, mtimens, flags, _, target, uid, gid, xattr = values
    kind = _KINDS.get(mode & TYPE_MASK)
    if kind is None:
        raise BadFormat(f"{paths.display(path)}: mode {mode:o} is of no known file type", path=path)
    return Row(
        Entry(
            path=path,
            kind=kind,
            mode=mode & ~TYPE_MASK,
            uid=uid & 0xFFFFFFFF,
            gid=gid & 0xFFFFFFFF,
            size=len(target) if kind is Kind.SYMLINK else size if kind in (Kind.FILE, Kind.DIRECTORY) else 0,
            mtime_ns=mtime * _NANO + (mtimens or 0),
            target=target,
            rdev=size if kind in _DEVICES else 0,
            xattrs=unpack_xattrs(xattr),
            group=hardlinks >> 32,
            content=_content(flags, digest, chunks) if kind is Kind.FILE else None,
        ),
        links=hardlinks & _LINKS_MASK,
        transition=_transition(flags, path),
        hidden=bool(flags & HIDDEN),
    )


def _content(flags: int, digest: bytes | None, chunks: tuple[tuple[int, int, bytes], ...]) -> Content:
    algorithm = Algorithm.from_bits(flags >> ALGORITHM_SHIFT & 7)
    return Content(
        algorithm=algorithm,
        digest=None if digest is None else Digest(algorithm, digest),
        compression=Compression.from_bits(flags >> COMPRESSION_SHIFT & 7),
        chunks=tuple(Chunk(offset, size, Digest(algorithm, raw)) for offset, size, raw in chunks),
        external=bool(flags & EXTERNAL),
        direct_io=bool(flags & DIRECT_IO),
    )


def _transition(flags: int, path: bytes) -> Transition:
    try:
        return _TRANSITIONS[flags & TRANSITIONS]
    except KeyError:
        raise BadFormat(f"{paths.display(path)}: flags {flags} contradict each other", path=path) from None


def _flags(row: Row) -> int:
    entry = row.entry
    flags = HIDDEN if row.hidden else 0
    if entry.kind is Kind.DIRECTORY:
        return flags | DIRECTORY | row.transition.value
    if entry.kind is Kind.SYMLINK:
        return flags | FILE | SYMLINK
    if entry.kind is not Kind.FILE:
        return flags | FILE | SPECIAL
    content = entry.content
    if content is None:
        raise Rejected(f"{paths.display(entry.path)} is a file without content", reason="no_content", path=entry.path)
    return flags | content_flags(content)


def content_flags(content: Content) -> int:
    """The flags of a regular file with this content."""
    return (
        FILE
        | (CHUNKED if content.chunks else 0)
        | (EXTERNAL if content.external else 0)
        | (DIRECT_IO if content.direct_io else 0)
        | (0 if content.algorithm is _SHA1 and content.compression is _ZLIB else _codes(content))
    )


def _codes(content: Content) -> int:
    return content.algorithm.bits << ALGORITHM_SHIFT | content.compression.value << COMPRESSION_SHIFT


def pack_xattrs(xattrs: Xattrs, path: bytes = b"") -> bytes | None:
    """The blob: version 1, count, then lengths, key and value of each in key order. Raises Rejected over the limits."""
    if not xattrs:
        return None
    blob = bytearray((1, min(len(xattrs), 255)))
    for key, value in sorted(xattrs):
        if not 0 < len(key) <= 255 or b"\0" in key or len(value) > 255 or len(xattrs) > 255:
            raise Rejected(
                f"{paths.display(path)}: extended attribute {key[:40]!r} does not fit",
                reason="bad_xattr",
                hint="at most 255 attributes, with keys and values of at most 255 bytes, can be published",
                path=path,
            )
        blob += bytes((len(key), len(value))) + key + value
    return bytes(blob)


def unpack_xattrs(blob: bytes | None) -> Xattrs:
    """The attributes in a blob; one of another version, or cut off, has none, as for the stock client."""
    if not blob or len(blob) < 2 or blob[0] != 1:
        return ()
    found = []
    position = 2
    for _ in range(blob[1]):
        if position + 2 > len(blob):
            return ()
        key_end = position + 2 + blob[position]
        end = key_end + blob[position + 1]
        if end > len(blob):
            return ()
        found.append((blob[position + 2 : key_end], blob[key_end:end]))
        position = end
    return tuple(found)
