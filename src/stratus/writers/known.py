"""Which objects need not be looked for: those that catalogs of the base name are in the store."""

from __future__ import annotations

from collections import deque

from stratus.catalogs.tree import CatalogTree
from stratus.errors import StratusError
from stratus.formats import paths
from stratus.formats.catalog import Catalog
from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.ingest.overflow import Overflow
from stratus.repository.objects import Objects

# A request for an unknown object costs more than a catalog does, and its bytes as well: with each so many of them, one
# more catalog is read.
_UNKNOWN_PER_CATALOG = 8
_MOST = 500_000  # objects that are learnt
_HELD = 100_000  # of them in memory; some 150 bytes each


class KnownObjects:
    """The objects of the base's catalogs, as far as they were read.

    What the tree has loaded anyway is taken from there; the longer objects stay unknown, the more of the other catalogs
    are read, so that the cost follows what is published, not the size of the repository.
    """

    def __init__(self, tree: CatalogTree, objects: Objects) -> None:
        self._tree = tree
        self._objects = objects
        self._known = Overflow(_HELD)  # digest and letter
        self._count = 0
        self._taken = 0  # catalogs of the tree
        self._read: set[Digest] = set()
        self._waiting = deque(tree.root.references.values())
        self._unknown = 0
        self._visited = b"/"  # no directory

    def visit(self, path: bytes) -> None:
        """Loads the catalog that has the row of ``path``: if a file did not change, it names the file's objects."""
        directory = paths.parent(path)
        if directory != self._visited:
            self._visited = directory
            self._tree.catalog_of(directory)

    def __contains__(self, object_id: ObjectId) -> bool:
        return self.has(object_id.digest.raw, object_id.suffix)

    def has(self, digest: bytes, suffix: Suffix) -> bool:
        """Whether it is in the store for certain; asking for unknown ones makes it learn."""
        if self._tree.loaded > self._taken:
            for catalog in self._tree.catalogs[self._taken :]:
                self._take(catalog)
                self._taken += 1
        name = digest + suffix.encode()
        if name in self._known:
            return True
        self._unknown += 1
        if self._unknown % _UNKNOWN_PER_CATALOG == 0 and self._waiting and self._count < _MOST:
            self._learn()
        return name in self._known

    def add(self, digest: bytes, suffix: Suffix) -> None:
        """It is in the store from now on."""
        self._known.set(digest + suffix.encode(), True)

    def _learn(self) -> None:
        while self._waiting:
            nested = self._waiting.popleft()
            if nested.digest in self._read:
                continue
            self._read.add(nested.digest)
            try:
                with self._objects.catalog(nested) as catalog:
                    self._take(catalog)
                    self._waiting.extend(catalog.nested())
            except StratusError:
                continue  # what cannot be read is of no help, and no harm
            return

    def _take(self, catalog: Catalog) -> None:
        for known in catalog.objects():
            self._known.set(known.digest.raw + known.suffix.encode(), True)
            self._count += 1
