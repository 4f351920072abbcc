"""Change sets as files: what a writer submits, ``changes/<id>`` in the store.

A line ``stratus change set 1``, then one zlib stream of MessagePack values: the header, then the records in their
order. Digests are pairs of algorithm number and bytes. The seal of a claim has the SHA-256 of the whole file.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.changes import Attach, Change, ChangeSet, Put, Remove, Tag, Untag, Usage
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind
from stratus.formats.hashes import DIGEST_SIZE, Algorithm, Digest, ObjectId, Suffix

_MAGIC = b"stratus change set 1\n"
_LARGEST_VALUE = 256 << 20  # bytes of one packed value; the header names 10 million objects at most
_FEED = 64 << 10
_NAME_SIZE = 1 + DIGEST_SIZE + 1


class _Header(msgspec.Struct, array_like=True):
    id: str
    repository: str
    path: bytes
    base: int | None
    writer: bytes
    message: bytes
    tag: str | None
    expected: dict[bytes, tuple[int, bytes]]
    usage: tuple[float, int, int, int, int, int, tuple[int, int, int, int, int]]
    warnings: tuple[bytes, ...]
    objects: bytes


def pack(change_set: ChangeSet) -> bytes:
    """The file."""
    stream = zlib.compressobj(1)
    parts = [_MAGIC]
    usage = change_set.usage
    header = _Header(
        change_set.id,
        change_set.repository,
        change_set.path,
        change_set.base,
        _raw(change_set.writer),
        _raw(change_set.message),
        change_set.tag,
        {path: _digest(digest) for path, digest in change_set.expected.items()},
        (
            usage.seconds,
            usage.new_objects,
            usage.present_objects,
            usage.plain_bytes,
            usage.stored_bytes,
            usage.uploaded_bytes,
            usage.requests,
        ),
        tuple(map(_raw, change_set.warnings)),
        _names(change_set.objects),
    )
    for value in (header, *map(_record, change_set.changes)):
        packed = msgspec.msgpack.encode(value)
        parts.append(stream.compress(len(packed).to_bytes(4, "little") + packed))
    parts.append(stream.flush())
    return b"".join(parts)


def digest(file: bytes) -> str:
    """What the seal names the file by."""
    return hashlib.sha256(file).hexdigest()


def parse(file: bytes) -> ChangeSet:
    """The change set; its records are read each time that they are iterated. Raises BadFormat, then or later."""
    values = _values(file)
    try:
        header = typed.from_msgpack(next(values), _Header)
        return ChangeSet(
            id=header.id,
            repository=header.repository,
            path=header.path,
            changes=_Records(file),
            objects=ObjectNames(header.objects),
            base=header.base,
            writer=_text(header.writer),
            message=_text(header.message),
            tag=header.tag,
            expected={path: _read_digest(pair) for path, pair in header.expected.items()},
            usage=Usage(*header.usage),
            warnings=tuple(map(_text, header.warnings)),
        )
    except (StopIteration, ValueError, TypeError) as error:
        raise BadFormat(f"not a change set: {error}") from error


class _Records(Iterable[Change]):
    """The records of a file, each time from the start."""

    def __init__(self, file: bytes) -> None:
        self._file = file

    def __iter__(self) -> Iterator[Change]:
        values = _values(self._file)
        next(values)
        for packed in values:
            try:
                name, *fields = msgspec.msgpack.decode(packed)  # noqa: TID251 (of no type)
                yield _READ[name](*fields)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise BadFormat(f"a change set with a record that is none: {error}") from error


class ObjectNames(Iterable[ObjectId]):
    """Names of objects: a byte for the algorithm, the raw digest, a byte for the letter (0: none)."""

    def __init__(self, packed: bytes) -> None:
        if len(packed) % _NAME_SIZE:
            raise BadFormat("a change set with a list of objects that is cut off")
        self.packed = packed

    @classmethod
    def of(cls, algorithm: Algorithm, names: Iterable[bytes]) -> ObjectNames:
        """From raw digests, each followed by its letter, if it has one."""
        head = bytes((algorithm.bits,))
        return cls(b"".join(head + name.ljust(_NAME_SIZE - 1, b"\0") for name in names))

    def __len__(self) -> int:
        return len(self.packed) // _NAME_SIZE

    def __iter__(self) -> Iterator[ObjectId]:
        for start in range(0, len(self.packed), _NAME_SIZE):
            name = self.packed[start : start + _NAME_SIZE]
            try:
                suffix = Suffix(chr(name[-1]) if name[-1] else "")
            except ValueError as error:
                raise BadFormat(f"a change set with an object that is none: {error}") from error
            yield ObjectId(Digest(Algorithm.from_bits(name[0]), name[1:-1]), suffix)


def _names(objects: Iterable[ObjectId]) -> bytes:
    return objects.packed if isinstance(objects, ObjectNames) else b"".join(map(_name, objects))


def _name(object_id: ObjectId) -> bytes:
    digest = object_id.digest
    return bytes((digest.algorithm.bits,)) + digest.raw + (object_id.suffix.value.encode() or b"\0")


def _values(file: bytes) -> Iterator[bytes]:
    """The packed values, inflated piece by piece."""
    if not file.startswith(_MAGIC):
        raise BadFormat("not a change set", hint="it was written by another version of stratus")
    stream = zlib.decompressobj()
    buffer = bytearray()
    for start in range(len(_MAGIC), len(file), _FEED):
        try:
            buffer += stream.decompress(file[start : start + _FEED])
        except zlib.error as error:
            raise BadFormat(f"a damaged change set: {error}") from error
        position = 0
        while len(buffer) - position >= 4:
            size = int.from_bytes(buffer[position : position + 4], "little")
            if size > _LARGEST_VALUE:
                raise BadFormat("a change set with a record that is too large")
            if len(buffer) - position - 4 < size:
                break
            yield bytes(buffer[position + 4 : position + 4 + size])
            position += 4 + size
        del buffer[:position]
    if buffer or not stream.eof or stream.unused_data:
        raise BadFormat("a change set that is cut off or has a tail")


# -- records ---------------------------------------------------------------------------------------------------------


def _record(change: Change) -> tuple[Any, ...]:
    match change:
        case Put(entry):
            return "put", _entry(entry)
        case Remove(path, recursive):
            return "remove", path, recursive
        case Attach(entry, links, catalog, size, counters, made):
            return "attach", _entry(entry), links, _digest(catalog), size, dict(counters), made
        case Tag(name, revision, description):
            return "tag", name, revision, _raw(description)
        case Untag(name):
            return "untag", name


_READ: dict[str, Callable[..., Change]] = {
    "put": lambda entry: Put(_read_entry(entry)),
    "remove": lambda path, recursive: Remove(bytes(path), bool(recursive)),
    "attach": lambda entry, links, catalog, size, counters, made=0: Attach(
        _read_entry(entry), int(links), _read_digest(catalog), int(size), counters, int(made)
    ),
    "tag": lambda name, revision, description: Tag(str(name), revision, _text(description)),
    "untag": lambda name: Untag(str(name)),
}


def _entry(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.path,
        entry.kind.value,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.mtime_ns,
        entry.target,
        entry.rdev,
        entry.xattrs,
        entry.group,
        None if entry.content is None else _content(entry.content),
    )


def _read_entry(fields: list[Any]) -> Entry:
    path, kind, mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group, content = fields
    return Entry(
        bytes(path),
        Kind(kind),
        mode,
        uid,
        gid,
        size,
        mtime_ns,
        bytes(target),
        rdev,
        tuple((bytes(key), bytes(value)) for key, value in xattrs),
        group,
        None if content is None else _read_content(content),
    )


def _content(content: Content) -> tuple[Any, ...]:
    return (
        content.algorithm.bits,
        None if content.digest is None else content.digest.raw,
        content.compression.value,
        [(chunk.offset, chunk.size, chunk.digest.raw) for chunk in content.chunks],
        content.external,
        content.direct_io,
    )


def _read_content(fields: list[Any]) -> Content:
    bits, raw, compression, chunks, external, direct_io = fields
    algorithm = Algorithm.from_bits(bits)
    return Content(
        algorithm,
        None if raw is None else Digest(algorithm, bytes(raw)),
        Compression.from_bits(compression),
        tuple(Chunk(offset, size, Digest(algorithm, bytes(chunk))) for offset, size, chunk in chunks),
        bool(external),
        bool(direct_io),
    )


def _digest(digest: Digest) -> tuple[int, bytes]:
    return digest.algorithm.bits, digest.raw


def _read_digest(pair: tuple[int, bytes] | list[Any]) -> Digest:
    bits, raw = pair
    return Digest(Algorithm.from_bits(bits), bytes(raw))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
