"""The local cache: plain content of objects as files of a directory, shared by threads and processes.

The layout is that of the stock client's cache: ``<directory>/xx/<rest>`` named by the object's hash without the letter,
inflated; new files are written to ``txn/`` and renamed, so that a file is whole or not there. What a power cut left
behind is told by its size and fetched again. Bytes that change later under the same size are not noticed, as by the
stock client: names are hashes of what was compressed, which cannot be had from the plain content.

The limit counts the sizes of the files. A process that stored as much as would reach it looks at the whole directory
and removes what was used longest ago, until half of the limit is left; files that somebody has open stay readable.
Processes that share the directory count only what they store themselves until such a look, so that together they can
overshoot. On a full disk half of what is there goes, whatever the limit; if that is not enough, what is read is held
in memory and not kept. The time of last use is the file's mtime, brought up to date at most every ten minutes (many
file systems are mounted without atimes).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from stratus.errors import BadFormat, StratusError
from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId

Fetch = Callable[[ObjectId, Compression, int | None], bytes]
"""Gives the plain bytes of an object, verified against its name; the size, where known, is that of the plain bytes.

Called from any thread. Raises StratusError.
"""

_TRANSACTIONS = "txn"
_LEFTOVER_AGE = 3600  # seconds; a transaction lasts as long as writing bytes from memory
_USE_GRAIN = 600  # seconds
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PREFIX = re.compile(r"[0-9a-f]{2}")

log = logging.getLogger(__name__)


class Cache:
    """A cache directory and the function that fetches what is not in it; thread-safe."""

    def __init__(self, directory: Path, fetch: Fetch, limit: int | None = None) -> None:
        """Makes the directory if needed; ``limit`` in bytes, None for none. Raises StratusError if it is unusable."""
        self._directory = directory.absolute()
        self._transactions = self._directory / _TRANSACTIONS
        self._fetch = fetch
        self._limit = limit
        self._lock = threading.Lock()
        self._flights: dict[Digest, Future[None]] = {}
        self._used: int | None = None  # bytes in the directory, None before the first look
        self._evicting = threading.Lock()
        self._keeps = True  # whether the last object could be stored
        self._held: tuple[Digest, int] | None = None  # the last one that could not, and the file in memory
        with self._reported("made"):
            self._transactions.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_leftovers()

    def find(self, object_id: ObjectId, size: int | None) -> int | None:
        """An open file descriptor of the plain content, for ``pread``; None if it is not in the cache.

        The caller closes it. A file that does not have ``size`` bytes does not count.
        """
        try:
            descriptor = os.open(self.path(object_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._unkept(object_id)
        except OSError as error:
            raise self._unusable("read", error) from error
        status = os.fstat(descriptor)
        if size is not None and status.st_size != size:
            os.close(descriptor)
            return None
        if time.time() - status.st_mtime > _USE_GRAIN:
            with contextlib.suppress(OSError):  # somebody else's file, or a read-only cache: it only ages faster
                os.utime(descriptor)
        return descriptor

    def open(self, object_id: ObjectId, size: int | None, compression: Compression) -> int:
        """Like ``find``, but fetches what is not there; threads that want the same object share one fetch.

        What cannot be stored is in memory only.

        Raises what the fetch raises, BadFormat if the object has another size.
        """
        while True:
            descriptor = self.find(object_id, size)
            if descriptor is not None:
                return descriptor
            with self._lock:
                flight = self._flights.get(object_id.digest)
                mine = flight is None
                if flight is None:
                    flight = self._flights[object_id.digest] = Future()
            if mine:
                return self._fly(flight, object_id, size, compression)
            flight.result()  # then look again: it may be evicted already, or have been of another size

    def _fly(self, flight: Future[None], object_id: ObjectId, size: int | None, compression: Compression) -> int:
        try:
            descriptor = self._store(object_id, size, compression)
        except BaseException as error:
            with self._lock:
                del self._flights[object_id.digest]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[object_id.digest]
        flight.set_result(None)
        return descriptor

    def _store(self, object_id: ObjectId, size: int | None, compression: Compression) -> int:
        # Another flight of this object may have landed between our look and our start.
        descriptor = self.find(object_id, size)
        if descriptor is not None:
            return descriptor
        plain = self._fetch(object_id, compression, size)
        if size is not None and len(plain) != size:
            raise BadFormat(f"object {object_id} holds {len(plain)} bytes where {size} are expected")
        return self._keep(object_id, plain)

    def _keep(self, object_id: ObjectId, plain: bytes) -> int:
        """Writes the file, after making room on a full disk; where that fails the content is in memory only."""
        path = Path(self.path(object_id))
        try:
            try:
                descriptor = self._write(path, plain)
            except OSError as error:
                if error.errno not in _FULL or not self._make_room(len(plain)):
                    raise
                descriptor = self._write(path, plain)
        except OSError as error:
            if self._keeps:
                log.warning("%s; reading goes on without it", self._unusable("written", error))
            self._keeps = False
            return self._hold(object_id, plain)
        self._keeps = True
        self._account(len(plain))
        return descriptor

    def _hold(self, object_id: ObjectId, plain: bytes) -> int:
        """Keeps the content in memory until the next object that cannot be stored: its next piece is read soon."""
        descriptor = _in_memory(plain)
        with self._lock:
            before, self._held = self._held, (object_id.digest, os.dup(descriptor))
        if before is not None:
            os.close(before[1])
        return descriptor

    def _unkept(self, object_id: ObjectId) -> int | None:
        with self._lock:
            if self._held is None or self._held[0] != object_id.digest:
                return None
            return os.dup(self._held[1])

    def _write(self, path: Path, plain: bytes) -> int:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._transactions)
        try:
            _write_all(descriptor, plain)
            Path(temporary).rename(path)
        except BaseException:
            os.close(descriptor)
            Path(temporary).unlink(missing_ok=True)
            raise
        return descriptor

    def remove(self, object_id: ObjectId) -> None:
        """Forgets the content, which turned out to be damaged."""
        with contextlib.suppress(OSError):
            Path(self.path(object_id)).unlink()

    def path(self, object_id: ObjectId) -> str:
        """Where the plain content is, or would be."""
        text = str(object_id.digest)
        return f"{self._directory}/{text[:2]}/{text[2:]}"

    # -- the limit ---------------------------------------------------------------------------------------------------

    def _account(self, added: int) -> None:
        if self._limit is None:
            return
        with self._lock:
            if self._used is not None:
                self._used += added
            enough = self._used is not None and self._used <= self._limit
        if not enough and self._evicting.acquire(blocking=False):
            try:
                used = self._evict(self._limit)
                with self._lock:
                    self._used = used
            except OSError as error:  # what was stored can be read all the same
                log.warning("%s", self._unusable("tidied up", error))
            finally:
                self._evicting.release()

    def _evict(self, limit: int) -> int:
        """Removes the files used longest ago if all are more than ``limit``, down to half of it; gives the bytes left.

        The newest file, which somebody is about to read, stays whatever its size.
        """
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        return used if used <= limit else _remove(files[:-1], used, limit // 2)

    def _make_room(self, size: int) -> bool:
        """Removes half of what is there, if that is enough for ``size`` bytes."""
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        if size > used // 2:
            return False
        _remove(files, used, used // 2)
        return True

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Last use, size and path of every cached file."""
        for prefix in self._directory.iterdir():
            if not _PREFIX.fullmatch(prefix.name):
                continue
            with os.scandir(prefix) as found:
                for item in found:
                    with contextlib.suppress(FileNotFoundError):
                        status = item.stat(follow_symlinks=False)
                        yield status.st_mtime_ns, status.st_size, Path(item.path)

    def _remove_leftovers(self) -> None:
        """Removes the temporary files of processes that died."""
        oldest = time.time() - _LEFTOVER_AGE
        for path in self._transactions.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(what, error) from error

    def _unusable(self, what: str, error: OSError) -> StratusError:
        return StratusError(
            f"the cache {self._directory} cannot be {what}: {error.strerror}",
            hint="check its permissions and free space, or choose another directory",
        )


def _remove(files: list[tuple[int, int, Path]], used: int, enough: int) -> int:
    """Removes files, in this order, until no more than ``enough`` bytes of ``used`` are left; gives what is left."""
    for _, size, path in files:
        if used <= enough:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            used -= size
    return used


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("stratus", os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
