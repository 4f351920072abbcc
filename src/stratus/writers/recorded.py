"""The records and objects of a change set, which can be iterated again and again without being held as a whole."""

from __future__ import annotations

import marshal
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, Any

from stratus.formats import rows
from stratus.formats.changes import Attach, Change, Put, Remove
from stratus.formats.hashes import DIGEST_SIZE, Algorithm, Digest, ObjectId, Suffix
from stratus.formats.rows import Raw
from stratus.ingest.overflow import Overflow
from stratus.writers.comparing import Record

_HELD = 20_000  # records in memory, half a kilobyte each
_HELD_NAMES = 200_000  # names of objects in memory
_PARTIAL = Suffix.PARTIAL.encode()


class Changes(Iterable[Change]):
    """Records that came once, as changes."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._held: list[Any] = []
        self._attached: list[Attach] = []
        self._file: IO[bytes] | None = None
        for path, what in records:
            if isinstance(what, Attach):
                self._held.append((path, len(self._attached)))
                self._attached.append(what)
            else:
                self._held.append((path, what))
            if len(self._held) >= _HELD:
                self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is there as long as this
            weakref.finalize(self, self._file.close)
        marshal.dump(self._held, self._file)
        self._held.clear()

    def __iter__(self) -> Iterator[Change]:
        for path, what in self._raw():
            if what is None:
                yield Remove(path, recursive=True)
            elif isinstance(what, int):
                yield self._attached[what]
            else:
                yield Put(rows.read((path, *what)).entry)

    def _raw(self) -> Iterator[Any]:
        if self._file is not None:
            self._file.seek(0)
            end = self._file.seek(0, 2)
            position = 0
            while position < end:
                self._file.seek(position)
                some = marshal.load(self._file)
                position = self._file.tell()
                yield from some
        yield from self._held


class Objects(Iterable[ObjectId]):
    """The names of objects, each once."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._names = Overflow(_HELD_NAMES)

    def add(self, one: ObjectId) -> None:
        self._names.set(one.digest.raw + one.suffix.encode(), True)

    def noting(self, found: Iterable[Raw]) -> Iterator[Raw]:
        """The same rows; the objects of their contents are added."""
        add = self._names.set
        hash_index = rows.VALUES.index("hash")
        for one in found:
            raw = one[1][hash_index]
            if raw is not None:
                add(raw, True)
            for _, _, chunk in one[2]:
                add(chunk + _PARTIAL, True)
            yield one

    def __iter__(self) -> Iterator[ObjectId]:
        for name in self._names.keys():  # noqa: SIM118 - no mapping
            yield ObjectId(Digest(self._algorithm, name[:DIGEST_SIZE]), Suffix(name[DIGEST_SIZE:].decode()))

    def close(self) -> None:
        """Nothing can be iterated any more."""
        self._names.close()
