"""A repository with everything in it, and faults planted so that nothing but the fault is wrong.

Whoever edits a catalog gets all that depends on it made good: references up to the root, history, reflog, manifest.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from stratus.formats import paths, rows
from stratus.formats.compression import Compression
from stratus.formats.entries import Kind
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.records import Settings
from stratus.formats.reflog import RefKind, Reflog
from stratus.ingest.contract import Body, Draft, Placement, Warn
from stratus.repository.creation import create
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.trust.keys import RepositoryKeys
from stratus.upkeep.check import check
from stratus.upkeep.check_problems import LookedAt, Problem
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish

FQRN = "faulty.example.org"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
OUTER = b"/sw"  # nested catalogs, one in the other
INNER = b"/sw/v1"
_MTIME_NS = 1_600_000_000_123_456_789

Edit = Callable[[sqlite3.Connection], object]


@functools.cache
def keys() -> RepositoryKeys:
    """The keys of all repositories of these tests."""
    return RepositoryKeys.generate(FQRN)


class Everything:
    """A source with one of each kind: files empty, small, chunked, linked; links, devices, attributes, two catalogs."""

    name = "everything"

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        def file(path: bytes, data: bytes, **more: Any) -> Draft:
            return entry(path, Kind.FILE, body=Body(data, len(data)), **more)

        yield entry(b"/plain", Kind.DIRECTORY, size=4096)
        yield file(b"/plain/empty", b"")
        yield file(b"/plain/small", b"small\n")
        yield file(b"/plain/attributes", b"a", xattrs=((b"user.one", b"1"), (b"user.two", b"")))
        yield file(b"/plain/large", bytes(range(256)) * 64)
        yield file(b"/plain/first", b"linked\n", group=1)
        yield file(b"/plain/second", b"linked\n", group=1)
        yield entry(b"/plain/link", Kind.SYMLINK, size=5, target=b"small")
        yield entry(b"/plain/fifo", Kind.FIFO)
        yield entry(b"/plain/device", Kind.CHARACTER, rdev=259)
        yield entry(b"/plain/none", Kind.DIRECTORY, size=4096)
        yield entry(OUTER, Kind.DIRECTORY, size=4096)
        yield file(OUTER + b"/.cvmfscatalog", b"")
        yield file(OUTER + b"/readme", b"two versions\n")
        yield entry(INNER, Kind.DIRECTORY, size=4096)
        yield file(INNER + b"/.cvmfscatalog", b"")
        yield entry(INNER + b"/lib", Kind.DIRECTORY, size=4096)
        yield file(INNER + b"/lib/\xff\n", b"an awkward name\n")
        yield file(INNER + b"/lib/large", bytes(range(255, -1, -1)) * 64)


def entry(path: bytes, kind: Kind, *, size: int = 0, **more: Any) -> Draft:
    return Draft(path, kind, 0o755, 1000, 100, size, _MTIME_NS, **more)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository whose keys are at hand."""

    store: Store

    @property
    def layout(self) -> Layout:
        return Layout(FQRN)

    @property
    def manifest(self) -> Manifest:
        return Manifest.parse(self.store.get(self.layout.manifest).data)

    def problems(self, **how: Any) -> list[Problem]:
        """What the check finds."""
        return list(check(self.store, FQRN, [keys().public_key], **{"now": self.store.now(), **how}))

    def looked_at(self, **how: Any) -> LookedAt:
        """What a check without problems looked at."""
        counts = LookedAt()
        assert self.problems(looked_at=counts, **how) == []
        return counts

    # -- objects -----------------------------------------------------------------------------------------------------

    def plain(self, object_id: ObjectId) -> bytes:
        return Compression.ZLIB.unpack(self.store.get(self.layout.object(object_id)).data)

    def put(self, plain: bytes, suffix: Suffix) -> Digest:
        """Stores a zlib object; gives its name."""
        return self.put_stored(Compression.ZLIB.pack(plain), suffix)

    def put_stored(self, stored: bytes, suffix: Suffix) -> Digest:
        """Stores an object as it is; gives its name."""
        digest = self.manifest.root.algorithm.digest(stored)
        self.store.put(self.layout.object(ObjectId(digest, suffix)), stored)
        return digest

    @property
    def previous_root(self) -> ObjectId:
        """The root catalog of the revision before."""
        with connected(self.plain(ObjectId(self.manifest.root, Suffix.CATALOG))) as database:
            (text,) = database.execute("SELECT value FROM properties WHERE key = 'previous_revision'").fetchone()
        return ObjectId(Digest.parse(text), Suffix.CATALOG)

    def object_of(self, path: bytes) -> ObjectId:
        """The first object of the file at ``path``, which is not in a nested catalog."""
        with connected(self.plain(ObjectId(self.manifest.root, Suffix.CATALOG))) as database:
            (raw, flags, chunk) = database.execute(
                "SELECT hash, flags, (SELECT hash FROM chunks c WHERE c.md5path_1 = catalog.md5path_1 ORDER BY offset) "
                "FROM catalog WHERE md5path_1 = ?",
                paths.md5_halves(path)[:1],
            ).fetchone()
        algorithm = Algorithm.from_bits(flags >> rows.ALGORITHM_SHIFT & 7)
        return ObjectId(Digest(algorithm, raw)) if raw else ObjectId(Digest(algorithm, chunk), Suffix.PARTIAL)

    # -- planting ----------------------------------------------------------------------------------------------------

    def sign(self, **fields: Any) -> None:
        """Signs the manifest anew, with some fields changed."""
        self.store.put(self.layout.manifest, keys().sign_manifest(replace(self.manifest, **fields)))

    def edit_catalog(self, path: bytes, edit: str | Edit, patch: Callable[[bytes], bytes] = bytes) -> None:
        """Changes the catalog that is mounted at ``path``: by SQL or function, then its bytes by ``patch``."""
        self._advance(*self._edited(self.manifest.root, b"", path, edit, patch))

    def _edited(
        self, digest: Digest, here: bytes, path: bytes, edit: str | Edit, patch: Callable[[bytes], bytes]
    ) -> tuple[Digest, int]:
        with connected(self.plain(ObjectId(digest, Suffix.CATALOG))) as database:
            if here == path:
                apply(database, edit)
                plain = patch(database.serialize())
            else:
                nested = database.execute("SELECT path, sha1 FROM nested_catalogs").fetchall()
                at, below = next((p, h) for p, h in nested if paths.contains(p.encode(), path))
                child, size = self._edited(Digest.parse(below), at.encode(), path, edit, patch)
                database.execute("UPDATE nested_catalogs SET sha1 = ?, size = ? WHERE path = ?", (str(child), size, at))
                plain = database.serialize()
        return self.put(plain, Suffix.CATALOG), len(plain)

    def _advance(self, root: Digest, size: int) -> None:
        """Lets history, reflog and manifest name another root catalog."""
        sql = f"UPDATE tags SET hash = '{root}', size = {size} WHERE revision = {self.manifest.revision}"
        self._sign_logged(root=root, root_size=size, history=self._edited_history(sql))

    def edit_history(self, edit: str | Edit) -> None:
        self._sign_logged(history=self._edited_history(edit))

    def _edited_history(self, edit: str | Edit) -> Digest:
        history = self.manifest.history
        assert history is not None
        with connected(self.plain(ObjectId(history, Suffix.HISTORY))) as database:
            apply(database, edit)
            return self.put(database.serialize(), Suffix.HISTORY)

    def put_meta_info(self, plain: bytes) -> None:
        self._sign_logged(meta_info=self.put(plain, Suffix.META_INFO))

    def _sign_logged(self, **fields: Any) -> None:
        manifest = replace(self.manifest, **fields)
        with Reflog.parse(self.store.get(self.layout.reflog).data) as reflog:
            for kind, digest in (
                (RefKind.CATALOG, manifest.root),
                (RefKind.HISTORY, manifest.history),
                (RefKind.META_INFO, manifest.meta_info),
            ):
                if digest is not None:
                    reflog.add(kind, digest, manifest.timestamp)
            packed = reflog.pack()
        self.store.put(self.layout.reflog, packed)
        self.sign(**fields, reflog=manifest.root.algorithm.digest(packed))

    def edit_reflog(self, edit: str | Edit, sign: bool = True) -> None:
        """Changes the reflog; the manifest learns its checksum if ``sign``."""
        with connected(self.store.get(self.layout.reflog).data) as database:
            apply(database, edit)
            packed = database.serialize()
        self.store.put(self.layout.reflog, packed)
        if sign:
            self.sign(reflog=self.manifest.root.algorithm.digest(packed))


def build(store: Store, settings: Settings) -> Repository:
    """Creates a repository in ``store`` and publishes everything, tagged ``everything``."""
    create(store, FQRN, keys(), settings)
    writer = DirectWriter(store, FQRN, keys(), "somebody")
    publish(writer, FQRN, b"", [Everything()], "somebody", Options(tag="everything"))
    return Repository(store)


def small_chunks(**more: Any) -> Settings:
    """Settings under which files of a few kilobytes are cut."""
    return Settings(chunk_minimum=1024, chunk_average=2048, chunk_maximum=4096, **more)


@functools.cache
def _sound() -> Repository:
    return build(MemoryStore(clock=lambda: NOW), small_chunks())


def sound() -> Repository:
    """A fresh copy of a repository without fault."""
    copy = MemoryStore(clock=lambda: NOW)
    original = _sound().store
    for stat in original.list(""):
        copy.put(stat.key, original.get(stat.key).data)
    return Repository(copy)


@contextlib.contextmanager
def connected(plain: bytes) -> Iterator[sqlite3.Connection]:
    """The database in some bytes."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(plain)
        yield database


def apply(database: sqlite3.Connection, edit: str | Edit) -> None:
    """SQL may call ``md5a(path)`` and ``md5b(path)`` for the halves of a path's hash."""
    database.create_function("md5a", 1, lambda path: paths.md5_halves(path.encode())[0])
    database.create_function("md5b", 1, lambda path: paths.md5_halves(path.encode())[1])
    if isinstance(edit, str):
        database.executescript(edit)
    else:
        edit(database)
