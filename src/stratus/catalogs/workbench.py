"""The catalogs of a tree while they are edited: loaded when needed, written when touched, packed from the bottom up.

Knows how references, counters and predecessors of catalogs hang together; nothing of what a change means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from stratus.errors import Rejected
from stratus.formats import counters, paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import deflate_fast
from stratus.formats.counters import Counters
from stratus.formats.entries import Row
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.stores.flows import Flow

NO_CATALOG = "0" * 40  # the predecessor of a brand-new nested catalog, whatever the algorithm

LoadCatalog = Callable[[Nested], Flow[Catalog]]


class StoredCatalog(msgspec.Struct, frozen=True):
    """A catalog that is ready to be stored.

    Attributes:
        size: of the SQLite file in bytes.
        plain: that file, of a root: the next commit begins with it.
    """

    path: bytes
    id: ObjectId
    stored: bytes
    size: int
    plain: bytes | None


class OpenCatalog(msgspec.Struct):
    """A catalog that is being edited.

    Attributes:
        digest: what it was stored under; None for a new one.
        children: the nested catalogs in it by path; None for one that was not stored yet.
        accounted: what the parent's sub tree counters hold for this catalog and all below.
    """

    catalog: Catalog
    digest: Digest | None
    children: dict[bytes, Nested | None]
    accounted: Counters
    dirty: bool = False
    last_group: int = -1  # the highest hard-link group; -1 before the first look

    def next_group(self) -> int:
        """A number for a new hard-link group, never given before."""
        return self.reserve_groups(1) + 1

    def reserve_groups(self, count: int) -> int:
        """Room for that many hard-link groups: their numbers follow the one that this gives."""
        if self.last_group < 0:
            self.last_group = self.catalog.last_group()
        self.last_group += count
        return self.last_group - count


class Workbench:
    """All catalogs of one new revision that is being made."""

    def __init__(self, root: Catalog, digest: Digest, load: LoadCatalog) -> None:
        """Takes over ``root``, whose stored digest is ``digest``."""
        self._load = load
        self.open = {b"": _opened(root.upgraded(), digest)}
        self._last: tuple[bytes, OpenCatalog] | None = None  # what ``inside`` found last

    def close(self) -> None:
        for this in self.open.values():
            this.catalog.close()

    # -- finding -----------------------------------------------------------------------------------------------------

    def holder(self, path: bytes) -> Flow[OpenCatalog]:
        """The catalog with the row at ``path``; of a mountpoint that is the parent."""
        return self.inside(paths.parent(path))

    def inside(self, directory: bytes) -> Flow[OpenCatalog]:
        """The catalog with the rows below ``directory``."""
        if self._last is not None and self._last[0] == directory:
            return self._last[1]
        current = self.open[b""]
        end = 0
        while end < len(directory):
            end = directory.find(b"/", end + 1)
            end = len(directory) if end < 0 else end
            if directory[:end] in current.children:
                current = yield from self.child(current, directory[:end])
        self._last = directory, current
        return current

    def child(self, parent: OpenCatalog, path: bytes) -> Flow[OpenCatalog]:
        known = self.open.get(path)
        if known is None:
            nested = parent.children[path]
            assert nested is not None  # one that was never stored is open
            catalog = yield from self._load(nested)
            known = self.open[path] = _opened(catalog.upgraded(), nested.digest)
        return known

    def required(self, holder: OpenCatalog, path: bytes) -> Row:
        row = holder.catalog.row(path)
        if row is None:
            raise _damaged(path)
        return row

    def add_links(self, directory: bytes, change: int) -> Flow[None]:
        """Adds to the link count of a directory, in both rows of a transition."""
        inside = yield from self.inside(directory)
        holders = [inside]
        if directory and inside.catalog.root_path == directory:
            holders.append((yield from self.holder(directory)))
        for holder in holders:
            if not holder.catalog.add_links(directory, change):
                raise _damaged(directory)
            holder.dirty = True

    def flush(self) -> None:
        """Inserts all rows that wait for it. Raises Rejected where one cannot be written."""
        for this in self.open.values():
            this.catalog.flush()

    def write(self, holder: OpenCatalog, row: Row) -> None:
        holder.catalog.put(row)
        holder.dirty = True

    def replace(self, holder: OpenCatalog, old: Row, row: Row) -> None:
        """Writes a row in the place of another one."""
        holder.catalog.replace(old, row)
        holder.dirty = True

    def insert(self, holder: OpenCatalog, row: Row) -> None:
        """Writes a row where there is none."""
        holder.catalog.insert(row)
        holder.dirty = True

    def erase(self, holder: OpenCatalog, path: bytes) -> None:
        holder.catalog.delete(path)
        holder.dirty = True

    def erase_below(self, holder: OpenCatalog, top: bytes) -> int:
        """Erases all rows below ``top`` that are in this catalog; says how many there were."""
        holder.dirty = True
        return holder.catalog.delete_below(top)

    # -- references --------------------------------------------------------------------------------------------------

    def create(self, root: Row) -> OpenCatalog:
        """A new nested catalog with this row as its root, which its parent does not know yet."""
        self._last = None
        child = self.open[root.entry.path] = OpenCatalog(Catalog.create(root), None, {}, counters.zero(), dirty=True)
        return child

    def attach(self, parent: OpenCatalog, row: Row, nested: Nested, counts: Mapping[str, int]) -> None:
        """A stored catalog hangs at ``row`` from now on; ``counts`` are its counters and those of all below."""
        self._last = None
        self.insert(parent, row)
        parent.catalog.set_nested(nested)
        parent.children[nested.path] = nested
        counters.add(parent.catalog.below, counts)

    def drop(self, parent: OpenCatalog, path: bytes) -> None:
        """The nested catalog at ``path``, which must be open, and all below it are no part of the tree any more."""
        self.dissolve(parent, path)
        for known in [known for known in self.open if paths.contains(path, known)]:
            self.open.pop(known).catalog.close()

    def dissolve(self, parent: OpenCatalog, path: bytes) -> None:
        """The nested catalog at ``path``, which must be open, is none any more; what it had is the caller's affair."""
        self._last = None
        this = self.open.pop(path)
        counters.add(parent.catalog.below, this.accounted, -1)
        parent.catalog.remove_nested(path)
        parent.dirty = True
        del parent.children[path]
        this.catalog.close()

    def move_reference(self, source: OpenCatalog, target: OpenCatalog, path: bytes) -> None:
        """A nested catalog hangs below another parent from now on; its counters are the caller's affair."""
        self._last = None
        nested = source.children.pop(path)
        source.catalog.remove_nested(path)
        target.children[path] = nested
        if nested is not None:
            target.catalog.set_nested(nested)

    # -- the result --------------------------------------------------------------------------------------------------

    def pack(self, algorithm: Algorithm, timestamp: int) -> Flow[list[StoredCatalog]]:
        """The catalogs to be stored, deepest first, the root last: it is always among them. Its revision is set."""
        self.open[b""].dirty = True
        stored = []
        for path in sorted(self.open, key=lambda path: (-path.count(b"/"), path)):
            this = self.open[path]
            if not this.dirty:
                continue
            if path:
                this.catalog.set_property("revision", this.catalog.revision + 1)
            this.catalog.set_property("previous_revision", NO_CATALOG if this.digest is None else str(this.digest))
            this.catalog.set_property("last_modified", timestamp)
            packed = store_catalog(path, this.catalog, algorithm)
            stored.append(packed)
            if path:
                parent = yield from self.holder(path)
                parent.catalog.set_nested(Nested(path, packed.id.digest, packed.size))
                counters.add(parent.catalog.below, this.accounted, -1)
                counters.add(parent.catalog.below, counters.total(this.catalog.own, this.catalog.below))
                parent.dirty = True
        return stored


def _opened(catalog: Catalog, digest: Digest) -> OpenCatalog:
    accounted = counters.total(catalog.own, catalog.below)
    return OpenCatalog(catalog, digest, {nested.path: nested for nested in catalog.nested()}, accounted)


def _damaged(path: bytes) -> Rejected:
    return Rejected(
        f"the catalogs do not agree about {paths.display(path)}",
        reason="damaged",
        hint="look at the repository with `stratus check`",
        path=path,
    )


def store_catalog(path: bytes, catalog: Catalog, algorithm: Algorithm) -> StoredCatalog:
    """Packs a catalog that is complete."""
    data = catalog.pack()
    stored = deflate_fast(data)
    plain = None if path else data
    return StoredCatalog(path, ObjectId(algorithm.digest(stored), Suffix.CATALOG), stored, len(data), plain)
