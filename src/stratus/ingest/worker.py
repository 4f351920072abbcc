"""What turns bytes into objects: reads, hashes, packs and uploads batches of pieces, step by step as it is told.

A batch is opened by ``read``; the one who leads then says which of its pieces are to be packed, and which of these
are to be uploaded. ``main`` does so in a process of its own, led through a pipe.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from stratus.errors import StratusError
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId, Suffix
from stratus.ingest.contract import File, NewObject, Policy, Uploader
from stratus.ingest.files import changed, identify, unreadable

KEY_SIZE = 32  # bytes of a hash of plain bytes
Piece = bytes | tuple[bytes, tuple[int, int, int, int] | None, int, int]
"""The bytes themselves, or a file, its identity, offset and size."""

_WINDOW = 8 << 20  # bytes that are read at once, and how much between two pieces may be read in vain
_GAP = 64 << 10
_LARGEST_GROWTH = 16 << 20  # bytes


class Desk:
    """The batches that one worker has open."""

    def __init__(self, policy: Policy, uploader: Uploader) -> None:
        self._policy = policy
        self._uploader = uploader
        self._plain: dict[int, list[bytes | memoryview]] = {}
        self._stored: dict[int, list[NewObject]] = {}

    def handle(self, step: str, number: int, what: Any) -> Any:
        """One step of a batch: ``read``, ``pack`` or ``put``; None if there is nothing to say. Raises StratusError."""
        match step:
            case "read":
                return self._read(number, what)
            case "pack":
                return self._pack(number, what)
            case _:
                return self._put(number, what)

    def _read(self, number: int, pieces: Sequence[Piece]) -> tuple[bytes, list[int]]:
        """The hashes of the plain bytes, one after another, and their sizes. Raises BadSource."""
        plain = self._plain[number] = list(_read(pieces))
        return b"".join(blake3(data).digest() for data in plain), [len(data) for data in plain]

    def _pack(self, number: int, wanted: Sequence[tuple[int, str]]) -> list[tuple[bytes, int]] | None:
        """Digest and size of the objects of these pieces, whose names have these letters; the others are let go."""
        plain = self._plain.pop(number)
        if not wanted:
            return None
        algorithm, packing = self._policy.algorithm, self._policy.packing
        objects = []
        for index, letter in wanted:
            data = plain[index]
            # Stock clients and tools know the empty file by its zlib form alone.
            stored = packing.pack(data) if data else Compression.ZLIB.pack(data)
            objects.append(NewObject(ObjectId(algorithm.digest(stored), Suffix(letter)), stored, len(data)))
            plain[index] = b""
        self._stored[number] = objects
        return [(one.id.digest.raw, len(one.stored)) for one in objects]

    def _put(self, number: int, indices: Sequence[int]) -> Any:
        """What the uploader gives for these objects, in a list; the others are let go. Raises StoreError."""
        objects = self._stored.pop(number)
        return [self._uploader([objects[index] for index in indices])] if indices else None


def main(descriptor: int) -> None:
    """Works in this process until the one who leads hangs up; ends it at once then, since they wait for that."""
    from multiprocessing.connection import Connection

    gc.disable()  # there are no cycles
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who leads hears of it too, and ends us
    with Connection(descriptor) as connection, contextlib.suppress(EOFError, ConnectionError):
        try:
            policy, uploader = connection.recv()
            desk = Desk(policy, uploader)
            while True:
                step, number, what = connection.recv()
                result = desk.handle(step, number, what)
                if result is not None:
                    connection.send((step, number, result))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            connection.send(("error", 0, _portable(error)))
    os._exit(0)


def _portable(error: Exception) -> Exception:
    if isinstance(error, StratusError | OSError | MemoryError):
        error.__cause__ = error.__context__ = None
        return error
    return StratusError(f"a worker failed: {type(error).__name__}: {error}")


def _read(pieces: Sequence[Any]) -> Iterator[bytes | memoryview]:
    """The bytes of the pieces. Raises BadSource."""
    opened: File | None = None
    descriptor = -1
    window, start = memoryview(b""), 0
    try:
        for index, piece in enumerate(pieces):
            if isinstance(piece, bytes):
                yield piece
                continue
            name, identity, offset, size = piece
            file = File(name, identity)
            if identity is None:
                yield _whole(file, size)
                continue
            if file != opened:
                if descriptor >= 0:
                    os.close(descriptor)
                    descriptor = -1
                window, start = memoryview(b""), 0
                descriptor = _open(file)
                opened = file
            if not start <= offset <= offset + size <= start + len(window):
                window, start = memoryview(os.pread(descriptor, _extent(pieces, index), offset)), offset
            data = window[offset - start : offset - start + size]
            if len(data) != size:
                raise changed(file)
            yield data
    except OSError as error:
        raise unreadable(error.filename or name, error) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _extent(pieces: Sequence[Any], first: int) -> int:
    """How many bytes to read from where a piece begins, for those that follow in the file right behind it too."""
    name, identity, offset, size = pieces[first]
    end = offset + size
    for piece in pieces[first + 1 :]:
        if isinstance(piece, bytes) or piece[:2] != (name, identity):
            break
        if not end <= piece[2] <= end + _GAP or piece[2] + piece[3] > offset + _WINDOW:
            break
        end = piece[2] + piece[3]
    length: int = end - offset
    return length


def _open(file: File) -> int:
    # Should it have become a fifo or a symbolic link by now, this neither waits nor follows.
    follow = 0 if file.identity else os.O_NOFOLLOW
    descriptor = os.open(file.path, os.O_RDONLY | follow | os.O_NONBLOCK | os.O_CLOEXEC)
    if file.identity is not None and identify(descriptor) != file.identity:
        os.close(descriptor)
        raise changed(file)
    return descriptor


def _whole(file: File, size: int) -> bytes:
    """What a file holds by now, which may be another size than it had."""
    descriptor = _open(file)
    try:
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        while len(data) <= size + _LARGEST_GROWTH and (more := os.read(descriptor, 1 << 20)):
            data += more
    finally:
        os.close(descriptor)
    if len(data) > size + _LARGEST_GROWTH:
        raise changed(file)
    return data
