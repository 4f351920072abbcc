"""A store in a directory: each key is a plain file of that name, so that any web server can serve it as it is.

A put writes a temporary file and gives it its name in one step, so that a file is whole or not there, also after the
process was killed. Against a power cut there is one ``sync`` for all that was put before (a flush per object costs
four fifths of the speed, measured); only what replaces something under compare-and-swap is flushed before it gets its
name. Every put and delete of a key that exists takes an exclusive ``flock``, so that conditions hold across processes.
Network file systems must have working ``flock``, ``link`` and ``rename``.

``.stratus-tmp/`` in the directory holds locks, and temporary files in directories of its own; it is no part of the
store. ``.stratus/`` is for its owner's eyes only. Headers are not stored: web servers derive them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import quote

from stratus.errors import Changed, Exists, NotFound, Refused, StoreError, StratusError, Unsuitable, UsageError
from stratus.stores.contract import (
    ABSENT,
    ALWAYS,
    Absent,
    Blob,
    Condition,
    Created,
    Exchange,
    Grant,
    Headers,
    Item,
    Match,
    Observer,
    Present,
    Stat,
    Version,
    ignore,
)
from stratus.stores.keys import check_key, collision, object_name
from stratus.stores.observing import PAGE, Watch, both, pages
from stratus.stores.prepared import Deferred

if TYPE_CHECKING:
    from typing_extensions import Buffer

TEMPORARY = ".stratus-tmp"
PRIVATE = ".stratus"
_LEFTOVER_AGE = timedelta(hours=1)  # a put lasts as long as writing bytes from memory
_LEFTOVER = re.compile(r"[0-9a-f]{32}")
_DIRECTORIES = 8  # of temporary files; who creates one has its directory to itself
_LOCKS = 256  # keys that share a lock wait for each other, no more
_LOOKED_FOR = 64 << 10  # bytes
_TRIES = 100  # a put's directory may be removed by a delete again and again
_TOP = re.compile(rf"{re.escape(TEMPORARY)}(/|$)")


class DirectoryStore:
    """A directory as a store; made at the first put if it is not there. Thread-safe, and safe between processes.

    Versions are hashes of the bytes; of an object, which is named after the hash of its bytes, the name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._root = os.fsencode(self._path)
        self._observer: Observer = ignore
        self._ready = False
        self._token, self._numbers = token_hex(12), itertools.count()  # what names temporary files

    @property
    def url(self) -> str:
        return f"file://{quote(self._root)}"

    @property
    def path(self) -> Path:
        """The directory."""
        return self._path

    def observed(self, observer: Observer) -> DirectoryStore:
        """A view of the same directory."""
        view = DirectoryStore(self._path)
        view._observer = both(self._observer, observer)
        return view

    def elsewhere(self) -> Callable[[], DirectoryStore]:
        return functools.partial(DirectoryStore, self._path)

    def tell(self, exchange: Exchange) -> None:
        self._observer(exchange)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, span: tuple[int, int] | None = None) -> Blob:
        path = self._file(key)
        watch = Watch(self._observer, "get", key)
        name = object_name(key)
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - bytes, and on the hot path
                modified = os.fstat(file.fileno()).st_mtime
                if span is not None and name is not None:
                    data = os.pread(file.fileno(), max(0, span[1] - span[0]), span[0])
                else:
                    data = file.readall()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            watch.tell(404)
            raise NotFound(f"there is no {key} in {self._path}") from None
        except OSError as error:
            raise self._failed("read", key, error) from error
        version = Version(name) if name is not None else _version(data)
        if span is not None and name is None:
            data = data[span[0] : max(span)]
        watch.tell(200 if span is None else 206, received=len(data))
        return Blob(data, version, _time(modified))

    def list(self, prefix: str, after: str = "") -> Iterator[Stat]:
        """In the order of the keys' bytes. Gives the version of what is no object by reading it."""
        found = pages(self._walk(prefix, after))
        page: list[Stat] | None = None
        while page is None or len(page) == PAGE:
            watch = Watch(self._observer, "list", prefix)
            page = next(found, None)
            if page is None:
                return
            watch.tell(200)
            yield from page

    def _walk(self, prefix: str, after: str) -> Iterator[Stat]:
        above = prefix.rpartition("/")[0]
        if above and any(component in ("", ".", "..") for component in above.split("/")):
            return
        start = f"{above}/".encode() if above else b""
        for key, status in self._files(start, prefix.encode(), after.encode()):
            text = key.decode()
            name = object_name(text)
            try:
                version = Version(name) if name is not None else _version(self._read(key))
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield Stat(text, status.st_size, version, _time(status.st_mtime))

    def _files(self, above: bytes, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        try:
            with os.scandir(os.path.join(self._root, above)) as found:  # noqa: PTH118 - bytes
                entries = sorted((above + entry.name + (b"/" if entry.is_dir() else b""), entry) for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._failed("list", os.fsdecode(above), error) from error
        for key, entry in entries:
            if key == f"{TEMPORARY}/".encode() or not _is_text(key):
                continue
            if key.endswith(b"/"):
                if (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                    yield from self._files(key, prefix, after)
            elif key.startswith(prefix) and key > after:
                with contextlib.suppress(FileNotFoundError):
                    yield key, entry.stat()

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Blob | None]]:
        for key in keys:
            try:
                yield key, self.get(key)
            except NotFound:
                yield key, None

    def missing(self, keys: Iterable[str]) -> set[str]:
        absent = set()
        for key in keys:
            there = os.path.isfile(self._file(key))  # noqa: PTH113 - bytes, and on the hot path
            Watch(self._observer, "head", key).tell(200 if there else 404)
            if not there:
                absent.add(key)
        return absent

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:  # noqa: ARG002
        path = self._file(key)
        watch = Watch(self._observer, "put", key)
        size = memoryview(data).nbytes
        try:
            # The link decides; looking before saves writing what is there already, which costs more if it is large.
            if size > _LOOKED_FOR and isinstance(when, Absent) and os.path.isfile(path):  # noqa: PTH113 - bytes
                done = False
            else:
                done = self._write(key, path, data, when)
        except OSError as error:
            raise self._translated("write", key, error) from error
        watch.tell(200 if done else 412, sent=size)
        if not done:
            raise (Exists if isinstance(when, Absent) else Changed)(
                f"{key} in {self._path} is not what it was taken for"
            )
        name = object_name(key)
        return _version(data) if name is None else Version(name)

    def _write(self, key: str, path: bytes, data: Buffer, when: Condition) -> bool:
        """False if the condition does not hold."""
        temporary = self._temporary(f"{os.getpid() % _DIRECTORIES}/{self._token}{next(self._numbers):08x}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                _write_all(descriptor, data)
                if isinstance(when, Match):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            for _ in range(_TRIES):
                try:
                    return self._name(key, temporary, path, when)
                except FileNotFoundError:
                    self._make_parent(key, path)
            raise StoreError(f"the directory of {key} in {self._path} disappears as often as it is made")
        finally:
            try:  # noqa: SIM105 - on the hot path
                os.unlink(temporary)  # noqa: PTH108 - bytes
            except FileNotFoundError:
                pass

    def _name(self, key: str, temporary: bytes, path: bytes, when: Condition) -> bool:
        if isinstance(when, Absent):
            try:
                os.link(temporary, path)
            except FileExistsError:
                if os.path.isdir(path):  # noqa: PTH112 - bytes
                    raise collision(key) from None
                return False
            return True
        with self._locked(key):
            if isinstance(when, Match):
                try:
                    current = self._version_of(key)
                except (FileNotFoundError, NotADirectoryError):
                    return False
                if current != when.version:
                    return False
            os.rename(temporary, path)  # noqa: PTH104 - bytes
        return True

    def _make_parent(self, key: str, path: bytes) -> None:
        top = key.partition("/")[0]
        if top == PRIVATE:
            with contextlib.suppress(FileExistsError):
                (self._path / PRIVATE).mkdir(mode=0o700)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
        except FileExistsError:
            raise collision(key) from None

    def put_many(self, items: Iterable[Item]) -> Iterator[Created | Present]:
        for item in items:
            try:
                self.put(item.key, item.data, ABSENT)
            except Exists:
                yield Present(item.key)
            else:
                yield Created(item.key)

    def copy(self, source: str, target: str, match: Version) -> Version:
        blob = self.get(source)
        if blob.version != match:
            raise Changed(f"{source} in {self._path} is not what it was taken for")
        return self.put(target, blob.data)

    def delete(self, keys: Iterable[str]) -> set[str]:
        """Directories that it leaves empty go too."""
        done: set[str] = set()
        for page in pages(keys):
            if not page:
                break
            watch = Watch(self._observer, "delete", page[0])
            for key in page:
                path = self._file(key)
                with self._reporting("delete", key):
                    if os.path.lexists(path):
                        self._remove(key, path)
                done.add(key)
            watch.tell(200)
        return done

    def _remove(self, key: str, path: bytes) -> None:
        with self._locked(key):
            try:
                os.unlink(path)  # noqa: PTH108 - bytes
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
        above = os.path.dirname(path)  # noqa: PTH120 - bytes
        while above != self._root:
            try:
                os.rmdir(above)  # noqa: PTH106 - bytes
            except OSError:
                return
            above = os.path.dirname(above)  # noqa: PTH120 - bytes

    def presign_put(self, key: str, sha1: bytes | None, size: int, expires: timedelta) -> Grant:  # noqa: ARG002
        raise Unsuitable(
            f"{self._path} cannot grant uploads: nothing serves it",
            hint="use an S3 bucket, or let the API take the bytes",
        )

    # -- prepared requests -------------------------------------------------------------------------------------------

    def prepare_put(self, key: str, data: Buffer, when: Condition, headers: Headers | None = None) -> Deferred[Version]:
        """There is no signature that could run out: instead ``drain`` waits for what was prepared before."""
        self._file(key)
        stored = bytes(data)
        return Deferred(lambda: self.put(key, stored, when, headers), self._hold())

    def prepare_delete(self, keys: Iterable[str]) -> Deferred[set[str]]:
        """As ``prepare_put``."""
        wanted = tuple(keys)
        return Deferred(lambda: self.delete(wanted), self._hold())

    def drain(self) -> None:
        """Waits until every request that any process prepared before has been sent or dropped."""
        self._hold(fcntl.LOCK_EX)()

    def _hold(self, how: int = fcntl.LOCK_SH) -> Callable[[], None]:
        descriptor = self._lock_file("prepared", how)
        return lambda: os.close(descriptor)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """One flush of the file system for all that was put so far."""
        import ctypes  # readers have no use for it

        if not self._path.exists():
            return
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise StoreError(f"{self._path} cannot be flushed: {os.strerror(code)}")
        finally:
            os.close(descriptor)

    def now(self) -> datetime:
        """The clock of the file system (of the file server, if it is a network file system)."""
        try:
            clock = self._temporary("clock")
            os.close(os.open(clock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.utime(clock)
            return datetime.fromtimestamp(os.stat(clock).st_mtime, UTC)  # noqa: PTH116 - bytes
        except (OSError, StoreError):  # a directory that one may only read
            return datetime.now(UTC)

    def _file(self, key: str) -> bytes:
        check_key(key)
        if key.startswith(TEMPORARY) and _TOP.match(key):
            raise UsageError(f"{TEMPORARY} is reserved", hint="choose another key")
        return b"%s/%s" % (self._root, key.encode())

    def _read(self, key: bytes) -> bytes:
        with open(os.path.join(self._root, key), "rb", buffering=0) as file:  # noqa: PTH118, PTH123 - bytes
            return file.readall()

    def _version_of(self, key: str) -> Version:
        name = object_name(key)
        data = self._read(key.encode())
        return _version(data) if name is None else Version(name)

    def _temporary(self, name: str) -> bytes:
        if not self._ready:
            self._make_temporary()
        return self._root + f"/{TEMPORARY}/{name}".encode()

    def _make_temporary(self) -> None:
        directory = self._path / TEMPORARY
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"{self._path} is, or lies below, a file", hint="name a directory") from None
        directory.mkdir(mode=0o700, exist_ok=True)
        for number in range(_DIRECTORIES):
            (directory / str(number)).mkdir(exist_ok=True)
        oldest = (datetime.now(UTC) - _LEFTOVER_AGE).timestamp()
        for path in directory.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if _LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink()
        self._ready = True

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        descriptor = self._lock_file(f"lock-{zlib.crc32(key.encode()) % _LOCKS:02x}", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock_file(self, name: str, how: int) -> int:
        with self._reporting("lock", name):
            descriptor = os.open(self._temporary(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, how)
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    @contextlib.contextmanager
    def _reporting(self, what: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._translated(what, key, error) from error

    def _translated(self, what: str, key: str, error: OSError) -> StratusError:
        if isinstance(error, NotADirectoryError | IsADirectoryError):
            return collision(key)
        return self._failed(what, key, error)

    def _failed(self, what: str, key: str, error: OSError) -> StoreError:
        message = f"cannot {what} {key} in {self._path}: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return Refused(message, hint="check the owner and the permissions of the directory")
        if error.errno == errno.EDQUOT:
            return StoreError(message, hint="the quota is exhausted: remove something, or have it raised")
        return StoreError(message, hint="check the directory and its free space")


def _version(data: Buffer) -> Version:
    return Version(hashlib.sha1(data, usedforsecurity=False).hexdigest())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _write_all(descriptor: int, data: Buffer) -> None:
    written = os.write(descriptor, data)  # nearly always all of it
    rest = memoryview(data).cast("B")[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]
