"""What this machine has stored before: from plain bytes to the objects that they became.

One file per repository and epoch of garbage collection, in the cache directory: what was stored in an epoch is there
until the next one begins, so a file of another epoch is begun anew. Losing it costs time, nothing else. It is written
once all that it names is safe in the store.

The file is a line that names the era, then a frame for every publish that stored something: a head with the number of
records, the revision, and the CRC of the records; the records by their keys: key, digest, size of the object. A frame
that is cut off or damaged is the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from stratus.formats.compression import Packing
from stratus.formats.hashes import DIGEST_SIZE, Algorithm
from stratus.ingest.overflow import Overflow

_HEAD = struct.Struct("<QQI")
_KEY = 33  # bytes: a hash of plain bytes, and a letter or none
_RECORD = struct.Struct(f"<{_KEY}s{DIGEST_SIZE}sQ")
_HELD = 100_000  # records in memory, 200 bytes each; in a file of more they are looked for
_MOST_FRAMES = 16  # of more, one is made


class Remembered:
    """Keys of plain bytes with digest and size of their objects. Errors of the file are never raised: it is dropped."""

    def __init__(self, directory: Path, url: str, fqrn: str, era: str, revision: int) -> None:
        """``era`` is new with each epoch, and for each repository; ``revision`` is the newest one that is known.

        A store that was put back to an older revision has lost objects, so what was remembered later is dropped.
        """
        name = hashlib.sha256(f"{url}\n{fqrn}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._file = directory / "stored" / name
        self._title = f"stratus stored {era}\n".encode()
        self._new = Overflow(_HELD)
        self._data: bytes | mmap.mmap = b""
        self._frames: list[range] = []  # where records begin
        self._held: dict[bytes, int] | None = None
        try:
            self._open(revision)
        except OSError:
            self._drop()

    def _open(self, revision: int) -> None:
        try:
            with self._file.open("rb") as file:
                is_small = os.fstat(file.fileno()).st_size <= _HELD * _RECORD.size
                self._data = file.read() if is_small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return
        newest, self._frames = _frames(self._data, len(self._title))
        if self._data[: len(self._title)] != self._title or newest > revision:
            self._drop()
        elif is_small:
            data = self._data
            self._held = {data[start : start + _KEY]: start for frame in self._frames for start in frame}

    @property
    def has_news(self) -> bool:
        """Whether something was added that is not saved yet."""
        return bool(self._new)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, int]]:
        """Digest and size in bytes of the objects of those that are remembered."""
        found = {}
        if self._frames:
            for key in keys:
                start = self._look(key.ljust(_KEY, b"\0"))
                if start is not None:
                    _, digest, size = _RECORD.unpack_from(self._data, start)
                    found[key] = digest, size
        return found

    def _look(self, key: bytes) -> int | None:
        """Where the key's record begins."""
        if self._held is not None:
            return self._held.get(key)
        data = self._data
        for frame in self._frames:
            index = bisect_left(frame, key, key=lambda start: data[start : start + _KEY])
            if index < len(frame) and data[frame[index] : frame[index] + _KEY] == key:
                return frame[index]
        return None

    def add(self, key: bytes, digest: bytes, size: int) -> None:
        """The object is stored; this is kept once ``save`` was called."""
        self._new.set(key, (digest, size))

    def save(self, revision: int) -> None:
        """All that was added is safe in the store, whose newest revision is this one at least."""
        if not self._new:
            return
        records = b"".join(
            _RECORD.pack(key.ljust(_KEY, b"\0"), digest, size) for key, (digest, size) in self._new.items()
        )
        try:
            self._append(records, revision)
        except OSError:
            self._drop()
        self._new.close()

    def _append(self, records: bytes, revision: int) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            title = file.read(len(self._title))
            if not title:
                file.write(self._title)
                file.flush()
            elif title != self._title:
                return  # another process has begun another era
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                newest, frames = _frames(data, len(self._title))
                file.truncate(frames[-1].stop if frames else len(self._title))
                if len(frames) < _MOST_FRAMES:
                    file.write(_frame(records, revision))
                else:
                    self._merge(data, frames, records, max(newest, revision))

    def _merge(self, data: mmap.mmap, frames: list[range], records: bytes, revision: int) -> None:
        """One frame instead of many, in a new file."""
        size = _RECORD.size
        everything = {data[start : start + size] for frame in frames for start in frame}
        everything.update(records[start : start + size] for start in range(0, len(records), size))
        unfinished = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        unfinished.write_bytes(self._title + _frame(b"".join(sorted(everything)), revision))
        unfinished.rename(self._file)

    def close(self) -> None:
        """What was added and not saved is forgotten."""
        self._new.close()
        self._forget()

    def _forget(self) -> None:
        self._frames, self._held = [], None
        if isinstance(self._data, mmap.mmap):
            self._data.close()
        self._data = b""

    def _drop(self) -> None:
        self._forget()
        with contextlib.suppress(OSError):
            self._file.unlink()


def _frame(records: bytes, revision: int) -> bytes:
    return _HEAD.pack(len(records) // _RECORD.size, revision, crc32(records)) + records


def _frames(data: bytes | mmap.mmap, position: int) -> tuple[int, list[range]]:
    """The newest revision of all frames, and where the records of each begin, up to what is no frame."""
    newest, found = 0, []
    while position + _HEAD.size <= len(data):
        count, revision, check = _HEAD.unpack_from(data, position)
        begin = position + _HEAD.size
        position = begin + count * _RECORD.size
        if not count or position > len(data) or crc32(memoryview(data)[begin:position]) != check:
            break
        newest = max(newest, revision)
        found.append(range(begin, position, _RECORD.size))
    return newest, found


def era(nonce: str, algorithm: Algorithm, packing: Packing) -> str:
    """The era of a repository whose collection state has this nonce, for objects that are made like this."""
    return f"{nonce} {algorithm.value} {packing.value}"
