"""A tree of catalogs in memory, edited by the engine, and what must be true of every catalog in it."""

from __future__ import annotations

from collections.abc import Iterable

from stratus.catalogs.balance import Weights
from stratus.catalogs.edit import Counts, Editor
from stratus.catalogs.structure import MARKER, Made
from stratus.catalogs.tree import CatalogTree
from stratus.catalogs.workbench import StoredCatalog
from stratus.formats import counters, paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Change
from stratus.formats.compression import Compression
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Content, Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore

SHA1 = Algorithm.SHA1


def file(path: bytes, text: bytes = b"", *, group: int = 0, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> Entry:
    """A regular file with this content."""
    digest = SHA1.digest(Compression.ZLIB.pack(text))
    return Entry(
        path,
        Kind.FILE,
        0o644,
        1,
        2,
        len(text),
        3_000_000_004,
        xattrs=xattrs,
        group=group,
        content=Content(SHA1, digest),
    )


def marker(directory: bytes) -> Entry:
    return file(directory + b"/" + MARKER)


def directory(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, Kind.DIRECTORY, mode, 1, 2, 4096, 5_000_000_006)


def symlink(path: bytes, target: bytes = b"target") -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, 1, 2, len(target), 7, target=target)


class Workshop:
    """A repository's catalogs and nothing else."""

    def __init__(self) -> None:
        with Catalog.create(Row(directory(b""), links=2)) as catalog:
            data = catalog.pack()
        self._files = {SHA1.digest(data): data}
        self.root = Nested(b"", SHA1.digest(data), len(data))
        self.revision = 1
        self.loaded: list[bytes] = []
        self.last: list[StoredCatalog] = []

    def edit(
        self,
        changes: Iterable[Change],
        top: bytes = b"",
        *,
        dirtab: Dirtab | None = None,
        weights: Weights | None = None,
        mtime_ns: int = 77,
    ) -> Counts:
        """Applies one change set; the tree stays as it is if it is rejected."""
        self.loaded.clear()
        editor = Editor(self.open(self.root), self.root.digest, self._load, 99_000_000_000)
        try:
            counts = flows.run(editor.apply(changes, top), MemoryStore("none"))
            self.made = Made(SHA1, mtime_ns)
            flows.run(editor.look_after(self.made, dirtab, weights), MemoryStore("none"))
            self.last = flows.run(editor.finish(SHA1, self.revision + 1, 99, {}), MemoryStore("none"))
        finally:
            editor.close()
        self.revision += 1
        self.keep(self.last)
        self.root = Nested(b"", self.last[-1].id.digest, self.last[-1].size)
        return counts

    def keep(self, catalogs: Iterable[StoredCatalog]) -> None:
        """Takes catalogs in, as into a store."""
        for stored in catalogs:
            self._files[stored.id.digest] = Compression.ZLIB.unpack(stored.stored)

    def data(self, nested: Nested) -> bytes:
        return self._files[nested.digest]

    def _load(self, nested: Nested) -> Flow[Catalog]:
        self.loaded.append(nested.path)
        yield from flows.sync()
        return self.open(nested)

    def open(self, nested: Nested) -> Catalog:
        data = self._files[nested.digest]
        assert len(data) == nested.size
        return Catalog.parse(data)

    def tree(self) -> CatalogTree:
        return CatalogTree(self.root, self.open)

    def rows(self) -> dict[bytes, Row]:
        """All rows of the tree but the root's, by path."""
        tree = self.tree()
        try:
            return {row.entry.path: row for row in tree.walk()}
        finally:
            tree.close()

    def nested(self) -> set[bytes]:
        """Where nested catalogs are."""
        return {path for path, row in self.rows().items() if row.transition is Transition.MOUNTPOINT}

    def verify(self) -> None:
        """Asserts what stock's check asks of catalogs: structure, link counts, counters."""
        self._verify(self.root, None)

    def _verify(self, at: Nested, mountpoint: Row | None) -> counters.Counters:
        with self.open(at) as catalog:
            assert catalog.root_path == at.path
            rows = list(catalog.walk())
            own = counters.zero()
            for row in rows:
                counters.tally(own, row)
            assert len(rows) == len(catalog)
            nested = catalog.nested()
            own["nested"] = len(nested)
            assert own == catalog.own, at.path
            top = rows[0]
            assert top.transition is (Transition.ROOT if at.path else Transition.NONE)
            if mountpoint is not None:
                assert (top.entry, top.links) == (mountpoint.entry, mountpoint.links)
            markers = {paths.parent(row.entry.path) for row in rows if paths.name(row.entry.path) == MARKER}
            assert markers == ({at.path} if at.path else set())
            mountpoints = {row.entry.path: row for row in rows if row.transition is Transition.MOUNTPOINT}
            assert set(mountpoints) == {reference.path for reference in nested}
            _verify_links(rows, at.path)
            below = counters.zero()
            for reference in nested:
                assert not catalog.rows(reference.path)
                counters.add(below, self._verify(reference, mountpoints[reference.path]))
            assert below == catalog.below, at.path
            return counters.total(own, below)


def _verify_links(rows: list[Row], top: bytes) -> None:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        entry = row.entry
        if entry.kind is Kind.DIRECTORY and row.transition is not Transition.MOUNTPOINT:
            children = [r for r in rows if r.entry.path != top or not top]
            subdirectories = sum(
                child.entry.kind is Kind.DIRECTORY and child.entry.path != entry.path
                for child in children
                if paths.parent(child.entry.path) == entry.path
            )
            assert row.links == 2 + subdirectories, entry.path
        elif entry.group:
            groups.setdefault(entry.group, []).append(row)
        elif entry.kind is not Kind.DIRECTORY:
            assert row.links == 1, entry.path
    for members in groups.values():
        assert len({paths.parent(row.entry.path) for row in members}) == 1
        assert {row.links for row in members} == {len(members)}
        assert len(members) > 1
