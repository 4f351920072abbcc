"""The records and objects of a change set, which can be iterated again and again without being held as a whole."""

from __future__ import annotations

import marshal
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, Any

from stratus.formats import rows
from stratus.formats.change_file import ObjectNames
from stratus.formats.changes import Attach, Change, Put, Remove
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.rows import Raw
from stratus.ingest.overflow import Overflow
from stratus.writers.comparing import Record

_HELD = 20_000  # records in memory, half a kilobyte each
_HELD_NAMES = 200_000  # names of objects in memory
_HASH = rows.VALUES.index("hash")
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
            import tempfile  # few publishes are as large

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


class Objects:
    """Gathers the names of objects, each once."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._names = Overflow(_HELD_NAMES)

    def add(self, one: ObjectId) -> None:
        self._names.set(one.digest.raw + one.suffix.encode(), True)

    def note(self, found: Iterable[Raw]) -> None:
        """The objects of these rows' contents."""
        add = self._names.set
        for _, values, chunks in found:
            raw = values[_HASH]
            if raw is not None:
                add(raw, True)
            for _, _, chunk in chunks:
                add(chunk + _PARTIAL, True)

    def noting(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records; the objects of the rows that are put are added."""
        for record in records:
            path, what = record
            if isinstance(what, tuple):
                self.note(((path, *what),))
            yield record

    def names(self) -> ObjectNames:
        """All of them, in the order of their digests."""
        return ObjectNames.of(self._algorithm, self._names.keys())

    def close(self) -> None:
        """Nothing is there any more."""
        self._names.close()
