"""Reading files: from entries and their chunks to the bytes in the cache."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from stratus.client.cache import Cache
from stratus.errors import BadFormat, StratusError
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry
from stratus.formats.hashes import ObjectId, Suffix

_Open = Callable[[ObjectId, int, Compression], int | None]


class Piece(msgspec.Struct, frozen=True):
    """Bytes ``start`` to ``end`` of an object that has ``size`` plain bytes."""

    object_id: ObjectId
    size: int
    start: int
    end: int


def pieces(entry: Entry, offset: int, size: int) -> Iterator[Piece]:
    """The pieces that make up ``size`` bytes from ``offset`` on, up to the end of the file.

    Raises BadFormat if the entry's chunks do not cover it or it has no content, StratusError for an external file.
    """
    content = entry.content
    if content is None:
        raise BadFormat("the entry has no content", path=entry.path)
    if content.external:
        raise StratusError("the file's data lie outside of the repository and cannot be read here", path=entry.path)
    end = min(offset + size, entry.size)
    if offset >= end:
        return
    if not content.chunks:
        if content.digest is None:
            raise BadFormat("the entry names no object", path=entry.path)
        yield Piece(ObjectId(content.digest), entry.size, offset, end)
        return
    first = max(bisect_right(content.chunks, offset, key=lambda chunk: chunk.offset) - 1, 0)
    for chunk in content.chunks[first:]:
        if offset >= end:
            return
        if not chunk.offset <= offset < chunk.offset + chunk.size:
            break
        until = min(chunk.offset + chunk.size, end)
        yield Piece(ObjectId(chunk.digest, Suffix.PARTIAL), chunk.size, offset - chunk.offset, until - chunk.offset)
        offset = until
    if offset < end:
        raise BadFormat(f"the chunks do not cover byte {offset} of {entry.size}", path=entry.path)


class ContentReader:
    """Reads the content of entries through a cache; thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on, fewer only at the end of the file; fetches what is not cached.

        Raises what ``Cache.open`` and ``pieces`` raise.
        """
        data = self._read(entry, offset, size, self._cache.open)
        if data is None:
            raise BadFormat("an object is shorter than the entry says", path=entry.path)
        return data

    def read_cached(self, entry: Entry, offset: int, size: int) -> bytes | None:
        """Like ``read``, but never waits for the network: None if anything is missing."""
        return self._read(entry, offset, size, lambda object_id, plain_size, _: self._cache.find(object_id, plain_size))

    def _read(self, entry: Entry, offset: int, size: int, opened: _Open) -> bytes | None:
        found = []
        for piece in pieces(entry, offset, size):
            compression = Compression.ZLIB if entry.content is None else entry.content.compression
            descriptor = opened(piece.object_id, piece.size, compression)
            if descriptor is None:
                return None
            try:
                data = os.pread(descriptor, piece.end - piece.start, piece.start)
            finally:
                os.close(descriptor)
            if len(data) != piece.end - piece.start:
                return None
            found.append(data)
        return found[0] if len(found) == 1 else b"".join(found)
