"""One revision of a repository: an immutable tree, of which only what is asked for is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from stratus.catalogs.compare import Difference, diff
from stratus.catalogs.tree import CatalogTree
from stratus.errors import BadFormat, StratusError
from stratus.formats.catalog import Nested
from stratus.formats.entries import Entry, Kind
from stratus.formats.hashes import ObjectId, Suffix
from stratus.repository.objects import Objects


class Revision:
    """A consistent state of the whole tree; thread-safe.

    Paths are ``b""`` for the root and ``b"/a/b"``. Every method may raise StoreError and Untrusted.
    """

    def __init__(self, root: Nested, objects: Objects, tree: CatalogTree | None = None) -> None:
        self._objects = objects
        self.tree = CatalogTree(root, objects.catalog) if tree is None else tree
        self.root = root.digest
        self.root_size = self.tree.root.at.size

    @property
    def number(self) -> int:
        return self.tree.root.catalog.revision

    @property
    def time(self) -> datetime:
        """When it was made, UTC."""
        return datetime.fromtimestamp(self.tree.root.catalog.last_modified, UTC)

    @property
    def message(self) -> str:
        """What its writer said of it; empty for those of the stock tools."""
        return self.tree.root.catalog.get_property("stratus.message") or ""

    @property
    def writer(self) -> str:
        """Who made it; empty for those of the stock tools."""
        return self.tree.root.catalog.get_property("stratus.writer") or ""

    def close(self) -> None:
        """Closes its catalogs; nothing can be read any more."""
        self.tree.close()

    def __enter__(self) -> Revision:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at ``path``, also if it is hidden; None if nothing is there."""
        row = self.tree.row(path)
        return None if row is None else row.entry

    def list(self, path: bytes = b"") -> Iterator[Entry]:
        """The entries right below a directory, by name, without hidden ones."""
        return (row.entry for row in self.tree.rows(path) if not row.hidden)

    def walk(self, path: bytes = b"", prune: Callable[[Entry], bool] | None = None) -> Iterator[Entry]:
        """All entries below ``path``, directories before their content; ``prune`` says where not to descend."""
        return (row.entry for row in self.tree.walk(path, None if prune is None else lambda row: prune(row.entry)))

    def read(self, entry: Entry, offset: int = 0, size: int | None = None) -> bytes:
        """Up to ``size`` bytes of a regular file from ``offset`` on; all of the rest by default."""
        end = entry.size if size is None else min(offset + size, entry.size)
        return b"".join(data[max(offset - start, 0) : end - start] for start, data in self._pieces(entry, offset, end))

    def _pieces(self, entry: Entry, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The objects that hold bytes ``offset`` to ``end`` of a file, each with where it begins."""
        content = entry.content
        if entry.kind is not Kind.FILE or content is None:
            raise BadFormat("only regular files can be read", path=entry.path)
        if content.external:
            raise StratusError("the file's data lie outside of the repository", path=entry.path)
        for chunk in content.chunks:
            if chunk.offset < end and offset < chunk.offset + chunk.size:
                object_id = ObjectId(chunk.digest, Suffix.PARTIAL)
                yield chunk.offset, self._objects.fetch(object_id, content.compression, chunk.size)
        if not content.chunks and offset < end:
            if content.digest is None:
                raise BadFormat("the entry names no object", path=entry.path)
            yield 0, self._objects.fetch(ObjectId(content.digest), content.compression, entry.size)

    def diff(self, other: Revision, path: bytes = b"") -> Iterator[Difference]:
        """What is different below ``path`` in ``other``, which is taken as the newer one."""
        return diff(self.tree, other.tree, path)
