"""What can be said of one row of a catalog by itself, as the database has it: decoding would paper over faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from stratus.errors import BadFormat
from stratus.formats import paths, rows
from stratus.formats.compression import Compression
from stratus.formats.entries import Kind, Transition
from stratus.formats.hashes import DIGEST_SIZE, Algorithm, Digest, ObjectId, Suffix
from stratus.upkeep.check_problems import Code, Problem, Wanted

TRANSITIONS = Transition.MOUNTPOINT.value | Transition.ROOT.value | Transition.BIND.value
_TYPE_MASK = 0o170000
_TYPE_FLAGS = rows.DIRECTORY | rows.FILE | rows.SYMLINK | rows.SPECIAL
_FILE_ONLY = rows.CHUNKED | rows.EXTERNAL | rows.DIRECT_IO
_BITS = 7  # of algorithm and compression each
_PACKING = _BITS << rows.ALGORITHM_SHIFT | _BITS << rows.COMPRESSION_SHIFT
_KNOWN_FLAGS = _TYPE_FLAGS | TRANSITIONS | _FILE_ONLY | _PACKING | rows.HIDDEN
_SPECIAL_SINCE = 5  # the schema revision that has a flag for devices, fifos and sockets
_NANO = 1_000_000_000

Chunks = list[tuple[object, object, object]]  # offset, size and hash as they are found, by offset


class RawRow(NamedTuple):
    """A row of the table ``catalog`` as SQLite gives it, text as bytes; ``formats.rows.COLUMNS`` behind the rowid."""

    rowid: int
    md5path_1: int
    md5path_2: int
    parent_1: int
    parent_2: int
    hardlinks: int
    hash: bytes | None
    size: int
    mode: int
    mtime: int
    mtimens: int | None
    flags: int
    name: bytes
    symlink: bytes
    uid: int
    gid: int
    xattr: bytes | None

    @property
    def links(self) -> int:
        return self.hardlinks & 0xFFFFFFFF

    @property
    def group(self) -> int:
        return self.hardlinks >> 32

    @property
    def kind(self) -> Kind | None:
        """None for a mode of no known file type."""
        try:
            return Kind(self.mode & _TYPE_MASK)
        except ValueError:
            return None

    @property
    def is_chunked(self) -> bool:
        return bool(self.flags & rows.CHUNKED)

    @property
    def is_external(self) -> bool:
        return bool(self.flags & rows.EXTERNAL)


def about(code: Code, path: bytes, what: str) -> Problem:
    """An error of the entry at ``path``."""
    return Problem(code, f"{paths.display(path)}: {what}", path)


def check_row(path: bytes, row: RawRow, chunks: Chunks, schema_revision: int) -> Iterator[Problem | Wanted]:
    """The problems of a row whose columns are of the right types, and the objects that it needs."""
    if row.xattr is not None and not _is_sound(row.xattr):
        yield about("bad_xattr", path, "its extended attributes cannot be decoded")
    if row.links < 1:
        yield about("wrong_link_count", path, "has link count 0")
    if row.mtimens is not None and not 0 <= row.mtimens < _NANO:
        yield about("bad_time", path, f"{row.mtimens} nanoseconds")
    kind = row.kind
    if kind is None:
        yield about("bad_mode", path, f"mode {row.mode:o} is of no known file type")
        return
    what = f"a {kind.name.lower()}"
    yield from _flags(path, row, kind, schema_revision)
    if kind is Kind.SYMLINK:
        if not row.symlink or b"\0" in row.symlink:
            yield about("bad_target", path, f"a symbolic link to {row.symlink!r}")
    elif row.symlink:
        yield about("bad_target", path, f"{what} with the link target {row.symlink!r}")
    if kind is Kind.FILE:
        yield from _file(path, row, chunks)
        return
    if row.hash is not None:
        yield about("unexpected_hash", path, f"{what} with a hash")
    if kind is Kind.DIRECTORY and row.group:
        yield about("bad_link_group", path, "a directory in a group of hard links")
    if kind in (Kind.FIFO, Kind.SOCKET) and row.size:
        yield about("bad_size", path, f"{what} of {row.size} bytes")


def _flags(path: bytes, row: RawRow, kind: Kind, schema_revision: int) -> Iterator[Problem]:
    flags = row.flags
    found = flags & _TYPE_FLAGS
    is_special = kind not in (Kind.DIRECTORY, Kind.SYMLINK, Kind.FILE)
    expected = rows.DIRECTORY if kind is Kind.DIRECTORY else rows.FILE
    expected |= rows.SYMLINK if kind is Kind.SYMLINK else rows.SPECIAL if is_special else 0
    is_old = is_special and schema_revision < _SPECIAL_SINCE and found == rows.FILE
    if found != expected and not is_old:
        yield about("bad_flags", path, f"flags {flags} do not go with mode {row.mode:o}")
    if flags & ~_KNOWN_FLAGS:
        yield about("bad_flags", path, f"flags {flags} have unknown bits")
    if kind is not Kind.FILE and flags & (_FILE_ONLY | _PACKING):
        yield about("bad_flags", path, f"flags {flags} have bits that are for regular files only")
    if kind is not Kind.DIRECTORY and flags & TRANSITIONS:
        yield about("bad_flags", path, f"flags {flags} have bits that are for directories only")


def _file(path: bytes, row: RawRow, chunks: Chunks) -> Iterator[Problem | Wanted]:
    if row.size < 0:
        yield about("bad_size", path, f"a file of {row.size} bytes")
    if row.hash is None and not row.is_chunked:
        yield about("no_hash", path, "a file without a hash")
    if row.hash is not None and len(row.hash) != DIGEST_SIZE:
        yield about("bad_hash_length", path, f"a hash of {len(row.hash)} bytes")
    if row.is_chunked:
        yield from _chunks(path, row, chunks)
    try:
        algorithm = Algorithm.from_bits(row.flags >> rows.ALGORITHM_SHIFT & _BITS)
    except BadFormat as error:
        yield about("bad_algorithm", path, error.message)
        return
    try:
        compression = Compression.from_bits(row.flags >> rows.COMPRESSION_SHIFT & _BITS)
    except BadFormat as error:
        yield about("bad_compression", path, error.message)
        return
    if row.is_external:
        return
    if row.hash is not None and len(row.hash) == DIGEST_SIZE and row.size >= 0:
        yield Wanted(ObjectId(Digest(algorithm, row.hash)), compression, row.size, path)
    for _, size, raw in chunks:
        if isinstance(size, int) and size > 0 and isinstance(raw, bytes) and len(raw) == DIGEST_SIZE:
            yield Wanted(ObjectId(Digest(algorithm, raw), Suffix.PARTIAL), compression, size, path)


def _chunks(path: bytes, row: RawRow, chunks: Chunks) -> Iterator[Problem]:
    if not chunks:
        yield about("bad_chunks", path, "a file in chunks that has none")
        return
    end = 0
    for offset, size, raw in chunks:
        if not isinstance(offset, int) or not isinstance(size, int) or not isinstance(raw, bytes):
            yield about("bad_type", path, f"the chunk at {offset!r} has a value that is missing or of a wrong type")
            return
        if offset != end or size <= 0:
            yield about("bad_chunks", path, f"a chunk of {size} bytes at {offset}, expected at {end}")
        if len(raw) != DIGEST_SIZE:
            yield about("bad_hash_length", path, f"the chunk at {offset} has a hash of {len(raw)} bytes")
        end = offset + size
    if end != row.size:
        yield about("bad_chunks", path, f"the chunks end at {end}, the file has {row.size} bytes")


def _is_sound(blob: bytes) -> bool:
    """Whether a blob of extended attributes holds what it says, and nothing behind that."""
    found = rows.unpack_xattrs(blob)
    length = 2 + sum(2 + len(key) + len(value) for key, value in found)
    keys = {key for key, _ in found}
    return bool(found) and length == len(blob) and len(keys) == len(found) and all(k and b"\0" not in k for k in keys)
