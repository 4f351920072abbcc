"""The edit engine: applies changes to a tree of catalogs and gives the catalogs that must be stored.

Only catalogs that a change touches are loaded. Structure follows content: a directory with a ``.cvmfscatalog`` in it is
a nested catalog of its own, one that loses it is merged back into its parent. Everything that other rows imply (link
counts, hard-link groups, both rows of a transition point, counters) is kept by the engine; change sets do not say it.

An ``Editor`` that raised Rejected has half of a change set in it: drop it and begin again without that change set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from stratus.catalogs.balance import Weights
from stratus.catalogs.structure import MARKER, Made, balance, follow_dirtab, follow_markers, follow_whole_dirtab
from stratus.catalogs.workbench import LoadCatalog, OpenCatalog, StoredCatalog, Workbench
from stratus.errors import Rejected
from stratus.formats import counters, dirtab, paths
from stratus.formats.catalog import Catalog
from stratus.formats.changes import Change, Put, Remove
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm, Digest
from stratus.stores.flows import Flow

VIRTUAL = b"/.cvmfs"  # snapshots that some stock repositories show; nobody's to change
_DIRECTORY_SIZE = 4096
_IMPLIED_MODE = 0o755


@dataclass(slots=True)
class Counts:
    """Entries that a change set added, changed and removed."""

    added: int = 0
    changed: int = 0
    removed: int = 0


class Editor:
    """One new revision of a tree in the making."""

    def __init__(self, root: Catalog, digest: Digest, load: LoadCatalog, mtime_ns: int) -> None:
        """Takes over ``root``, whose stored digest is ``digest``; ``mtime_ns`` is that of implied directories."""
        self._bench = Workbench(root, digest, load)
        self._mtime_ns = mtime_ns
        self._directories: set[bytes] = set()  # known to exist
        self._touched: set[bytes] = set()  # directories that were put, or in which something changed
        self._touched_markers: set[bytes] = set()
        self._broken_groups: set[tuple[bytes, int]] = set()  # directory, group
        self.dirtab_changed = False

    # -- applying ----------------------------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change], top: bytes) -> Flow[Counts]:
        """Applies what one change set says about the tree, all of it at or below ``top``. Raises Rejected."""
        counts = Counts()
        groups: dict[tuple[bytes, int], int] = {}
        owner: tuple[int, int] | None = None
        for change in changes:
            if not isinstance(change, Put | Remove):
                continue
            path = change.entry.path if isinstance(change, Put) else change.path
            self._check_path(path, top)
            self._touched.add(paths.parent(path))
            if path == dirtab.PATH:
                self.dirtab_changed = True
            if isinstance(change, Remove):
                yield from self._remove(change, counts)
                continue
            if path == top:
                owner = change.entry.uid, change.entry.gid
            yield from self._imply(paths.parent(path), owner or (change.entry.uid, change.entry.gid), counts)
            yield from self._put(change.entry, groups, counts)
        for (directory, _), group in groups.items():
            self._broken_groups.add((directory, group))
        yield from self._mend_groups()
        return counts

    def _check_path(self, path: bytes, top: bytes) -> None:
        if not paths.contains(top, path):
            raise Rejected(
                f"{paths.display(path)} is outside of {paths.display(top)}", reason="outside_of_lease", path=path
            )
        if paths.contains(VIRTUAL, path):
            raise Rejected(f"{paths.display(VIRTUAL)} is reserved for snapshots", reason="reserved", path=path)

    def _imply(self, directory: bytes, owner: tuple[int, int], counts: Counts) -> Flow[None]:
        """Sees that ``directory`` exists; those that are missing on the way are made."""
        if not directory or directory in self._directories:
            return
        yield from self._imply(paths.parent(directory), owner, counts)
        holder = yield from self._bench.holder(directory)
        row = holder.catalog.row(directory)
        if row is None:
            entry = Entry(directory, Kind.DIRECTORY, _IMPLIED_MODE, *owner, _DIRECTORY_SIZE, self._mtime_ns)
            yield from self._put(entry, {}, counts)
        elif row.entry.kind is not Kind.DIRECTORY:
            raise Rejected(
                f"{paths.display(directory)} is not a directory",
                reason="not_a_directory",
                hint="remove it first, or publish to another path",
                path=directory,
            )
        self._directories.add(directory)

    def _put(self, entry: Entry, groups: dict[tuple[bytes, int], int], counts: Counts) -> Flow[None]:
        path = entry.path
        directory = paths.parent(path)
        holder = yield from self._bench.holder(path)
        old = holder.catalog.row(path)
        if old is None:
            counts.added += 1
        elif old.entry.kind is not entry.kind:
            raise Rejected(
                f"{paths.display(path)} is there as something else",
                reason="type_change",
                hint="publish again",
                path=path,
            )
        else:
            counts.changed += 1
        self._note_marker(entry)
        if entry.kind is Kind.DIRECTORY:
            yield from self._put_directory(holder, entry, old)
            return
        if old is not None and old.entry.group:
            self._broken_groups.add((directory, old.entry.group))
        if entry.group:
            key = (directory, entry.group)
            if key not in groups:
                groups[key] = holder.next_group()
            entry = replace(entry, group=groups[key])
        (self._bench.insert if old is None else self._bench.write)(holder, Row(entry))

    def _put_directory(self, holder: OpenCatalog, entry: Entry, old: Row | None) -> Flow[None]:
        self._touched.add(entry.path)
        if old is None:
            self._bench.insert(holder, Row(entry, links=2))
            yield from self._count_subdirectory(paths.parent(entry.path), 1)
            return
        self._bench.write(holder, replace(old, entry=entry))
        if old.transition is Transition.MOUNTPOINT:
            child = yield from self._bench.inside(entry.path)
            self._bench.write(child, replace(old, entry=entry, transition=Transition.ROOT))

    def _note_marker(self, entry: Entry) -> None:
        if paths.name(entry.path) != MARKER:
            return
        directory = paths.parent(entry.path)
        if entry.kind is not Kind.FILE or not directory:
            where = "the root of a repository" if not directory else paths.display(directory)
            what = "a marker" if entry.kind is Kind.FILE else f"a {entry.kind.name.lower()} named {MARKER.decode()}"
            raise Rejected(
                f"{where} cannot have {what}",
                reason="bad_marker",
                hint=f"{MARKER.decode()} is a regular file in a directory that shall be a nested catalog",
                path=entry.path,
            )
        self._touched_markers.add(directory)

    def _remove(self, change: Remove, counts: Counts) -> Flow[None]:
        path = change.path
        if not path:
            raise Rejected("the root of a repository cannot be removed", reason="bad_path", path=path)
        holder = yield from self._bench.holder(path)
        row = holder.catalog.row(path)
        if row is None:
            raise Rejected(f"there is no {paths.display(path)}", reason="not_found", path=path)
        if row.entry.kind is Kind.DIRECTORY:
            content = yield from self._bench.inside(path)
            if not change.recursive and content.catalog.rows(path):
                raise Rejected(
                    f"{paths.display(path)} is not empty", reason="not_empty", hint="remove it recursively", path=path
                )
            yield from self._remove_below(holder, row, counts)
            yield from self._count_subdirectory(paths.parent(path), -1)
            self._directories = {known for known in self._directories if not paths.contains(path, known)}
        elif row.entry.group:
            self._broken_groups.add((paths.parent(path), row.entry.group))
        if paths.name(path) == MARKER:
            self._touched_markers.add(paths.parent(path))
        self._bench.erase(holder, path)
        counts.removed += 1

    def _remove_below(self, holder: OpenCatalog, row: Row, counts: Counts) -> Flow[None]:
        """Empties the directory; nested catalogs in it are dropped whole, only their counters are looked at."""
        path = row.entry.path
        if row.transition is Transition.NONE:
            for below in list(holder.catalog.walk(path)):
                self._bench.erase(holder, below.entry.path)
                counts.removed += 1
        for mountpoint in [known for known in holder.children if paths.contains(path, known)]:
            child = yield from self._bench.inside(mountpoint)
            total = counters.total(child.catalog.own, child.catalog.below)
            entries = sum(total[name] for name in ("regular", "symlink", "special", "dir"))
            # Each nested catalog's root counts twice, in its own rows and as the parent's mountpoint.
            counts.removed += entries - 1 - total["nested"]
            self._bench.drop(holder, mountpoint)

    def _count_subdirectory(self, directory: bytes, change: int) -> Flow[None]:
        """A directory got one more sub directory, or one less: its link count changes, in both rows of a transition."""
        inside = yield from self._bench.inside(directory)
        row = self._bench.required(inside, directory)
        self._bench.write(inside, replace(row, links=row.links + change))
        if row.transition is Transition.ROOT:
            parent = yield from self._bench.holder(directory)
            row = self._bench.required(parent, directory)
            self._bench.write(parent, replace(row, links=row.links + change))

    def _mend_groups(self) -> Flow[None]:
        """Makes link counts of hard-link groups true again; a group of one is no group."""
        for directory, group in sorted(self._broken_groups):
            holder = yield from self._bench.inside(directory)
            members = holder.catalog.group_members(directory, group)
            for row in members:
                entry = row.entry if len(members) > 1 else replace(row.entry, group=0)
                self._bench.write(holder, replace(row, entry=entry, links=len(members)))
        self._broken_groups.clear()

    # -- catalogs ----------------------------------------------------------------------------------------------------

    # -- the result --------------------------------------------------------------------------------------------------

    @property
    def dirtab_entry(self) -> Entry | None:
        """The entry of the dirtab as the tree has it now."""
        row = self._bench.open[b""].catalog.row(dirtab.PATH)
        return row.entry if row is not None and row.entry.kind is Kind.FILE else None

    def look_after(self, made: Made, rules: Dirtab | None, weights: Weights | None) -> Flow[None]:
        """Puts the structure of catalogs in order: markers, the dirtab's rules, balancing."""
        if rules is not None and self.dirtab_changed:
            yield from follow_whole_dirtab(self._bench, rules, made)
        elif rules is not None:
            yield from follow_dirtab(self._bench, rules, self._touched, made)
        yield from follow_markers(self._bench, self._touched_markers | made.markers)
        if weights is not None:
            yield from balance(self._bench, weights, made)

    def finish(
        self, algorithm: Algorithm, revision: int, timestamp: int, properties: Mapping[str, str | None]
    ) -> Flow[list[StoredCatalog]]:
        """The catalogs to be stored, deepest first, the root last: it is always among them.

        ``properties`` are those of the root catalog; None takes one away. The editor is closed.
        """
        root = self._bench.open[b""].catalog
        root.set_property("revision", revision)
        for key, value in properties.items():
            root.set_property(key, value)
        stored = yield from self._bench.pack(algorithm, timestamp)
        self.close()
        return stored

    def close(self) -> None:
        self._bench.close()
