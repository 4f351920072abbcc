"""A small repository in a directory: rows and plain objects as files, read by mounts in other processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from stratus.catalogs.tree import CatalogTree
from stratus.errors import NotFound, StoreError
from stratus.formats import counters, paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row, Transition, Xattrs
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix

FQRN = "small.example.org"
MTIME_NS = 1_500_000_000_123_456_789
ROOT = Row(Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 4096, MTIME_NS), links=2)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What ``latest`` gives."""

    revision: int
    root: Digest
    root_size: int
    ttl: int = 240
    tag: str = ""


class SmallRepository:
    """Publishes rows, and is a MountSource. All state is in the directory."""

    fqrn = FQRN
    host = "file:///small"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._objects = directory / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)

    # -- as a publisher ----------------------------------------------------------------------------------------------

    def publish(self, rows: Iterable[Row], nested: Iterable[bytes] = ()) -> Snapshot:
        """The next revision: the root and these rows, with nested catalogs at some of them."""
        by_path = {b"": ROOT, **{row.entry.path: row for row in rows}}
        catalogs: dict[bytes, Catalog] = {}
        tops = sorted({b"", *nested})
        for top in tops:
            catalogs[top] = Catalog.create(
                replace(by_path[top], transition=Transition.ROOT) if top else by_path[top],
            )
        for path, row in sorted(by_path.items()):
            if path:
                home = max(top for top in tops if paths.contains(top, paths.parent(path)))
                catalogs[home].put(replace(row, transition=Transition.MOUNTPOINT) if path in catalogs else row)
        for top in reversed(tops[1:]):
            parent = catalogs[max(other for other in tops if other != top and paths.contains(other, top))]
            parent.set_nested(self._packed(top, catalogs[top]))
            counters.add(parent.below, counters.total(catalogs[top].own, catalogs[top].below))
            catalogs[top].close()
        root = self._packed(b"", catalogs[b""])
        catalogs[b""].close()
        latest = self.directory / "latest.json"
        revision = json.loads(latest.read_text())["revision"] + 1 if latest.exists() else 1
        fresh = latest.with_suffix(".new")
        fresh.write_text(json.dumps({"revision": revision, "root": str(root.digest), "size": root.size}))
        fresh.rename(latest)
        return Snapshot(revision, root.digest, root.size)

    def _packed(self, top: bytes, catalog: Catalog) -> Nested:
        data = catalog.pack()
        digest = Algorithm.SHA1.digest(data)
        self.store(ObjectId(digest, Suffix.CATALOG), data)
        return Nested(top, digest, len(data))

    def store(self, name: ObjectId, data: bytes) -> None:
        (self._objects / str(name)).write_bytes(data)

    def file(self, path: bytes, data: bytes, *, mode: int = 0o644, chunk: int = 0, **rest: Any) -> Row:
        """The row of a file whose objects are stored, cut into chunks of ``chunk`` bytes if that is given."""
        chunks, digest = [], None
        for start in range(0, len(data), chunk) if chunk else ():
            piece = data[start : start + chunk]
            chunks.append(Chunk(start, len(piece), Algorithm.SHA1.digest(piece)))
            self.store(ObjectId(chunks[-1].digest, Suffix.PARTIAL), piece)
        if not chunks:
            digest = Algorithm.SHA1.digest(data)
            self.store(ObjectId(digest), data)
        content = Content(Algorithm.SHA1, digest, chunks=tuple(chunks))
        return row(path, Kind.FILE, mode, size=len(data), content=content, **rest)

    # -- as a source -------------------------------------------------------------------------------------------------

    def latest(self) -> Snapshot:
        self._fail()
        return self.trust((self.directory / "latest.json").read_bytes())

    def trust(self, manifest: bytes) -> Snapshot:
        found = json.loads(manifest)
        return Snapshot(found["revision"], Digest.parse(found["root"]), found["size"])

    def fetch(self, object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        self._fail()
        with (self.directory / "fetched").open("a") as log:
            log.write(f"{object_id}\n")
        try:
            return (self._objects / str(object_id)).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"no object {object_id}") from None

    def fetched(self) -> list[str]:
        """The names of all objects that were fetched, in order."""
        return (self.directory / "fetched").read_text().split()

    def break_store(self, broken: bool = True) -> None:
        """From now on nothing can be had from the store, or can again."""
        flag = self.directory / "broken"
        flag.touch() if broken else flag.unlink()

    def delay(self, seconds: float) -> None:
        """Every later answer takes that long."""
        (self.directory / "delay").write_text(str(seconds))

    def _fail(self) -> None:
        if (self.directory / "delay").exists():
            time.sleep(float((self.directory / "delay").read_text()))
        if (self.directory / "broken").exists():
            raise StoreError("the store is broken")

    def tree(self) -> CatalogTree:
        """The newest revision."""
        newest = self.latest()

        def load(at: Nested) -> Catalog:
            return Catalog.parse(self.fetch(ObjectId(at.digest, Suffix.CATALOG), Compression.ZLIB, at.size))

        return CatalogTree(Nested(b"", newest.root, newest.root_size), load)


def row(path: bytes, kind: Kind, mode: int, *, links: int = 1, hidden: bool = False, **rest: Any) -> Row:
    """Any row; the rest are fields of Entry."""
    values = {"uid": 0, "gid": 0, "size": 0, "mtime_ns": MTIME_NS, **rest}
    return Row(Entry(path, kind, mode, **values), links=links, hidden=hidden)


def directory(path: bytes, mode: int = 0o755, **rest: Any) -> Row:
    return row(path, Kind.DIRECTORY, mode, size=4096, links=2, **rest)


def symlink(path: bytes, target: bytes) -> Row:
    return row(path, Kind.SYMLINK, 0o777, target=target, size=len(target))


def xattrs(**values: str) -> Xattrs:
    return tuple(sorted((f"user.{name}".encode(), value.encode()) for name, value in values.items()))
