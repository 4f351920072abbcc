"""The edit engine: applies changes to a tree of catalogs and gives the catalogs that must be stored.

Only catalogs that a change touches are loaded. Structure follows content: a directory with a ``.cvmfscatalog`` in it is
a nested catalog of its own, one that loses it is merged back into its parent. Everything that other rows imply (link
counts, hard-link groups, both rows of a transition point, counters) is kept by the engine; change sets do not say it.

An ``Editor`` that raised Rejected has half of a change set in it: drop it and begin again without that change set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from stratus.catalogs.balance import Weights
from stratus.catalogs.structure import (
    MARKER,
    Made,
    balance,
    check_marker,
    follow_dirtab,
    follow_markers,
    follow_whole_dirtab,
    implied,
)
from stratus.catalogs.workbench import LoadCatalog, OpenCatalog, StoredCatalog, Workbench
from stratus.errors import Rejected
from stratus.formats import counters, dirtab, paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Attach, Change, Put, Remove
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm, Digest
from stratus.stores.flows import Flow

VIRTUAL = b"/.cvmfs"  # snapshots that some stock repositories show; nobody's to change


class Counts(msgspec.Struct):
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
        self._directories: set[bytes] = set()  # known to exist; with each its ancestors
        self._new: set[bytes] = set()  # those that the present change set made: nothing else was ever in them
        self._links: Counter[bytes] = Counter()  # what is still to be added to link counts of directories
        self._touched: set[bytes] = set()  # directories that were put, or in which something changed
        self._touched_markers: set[bytes] = set()
        self._broken_groups: dict[bytes, set[int]] = {}  # by directory
        self.dirtab_changed = False

    # -- applying ----------------------------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change], top: bytes) -> Flow[Counts]:
        """Applies what one change set says about the tree, all of it at or below ``top``. Raises Rejected."""
        counts = Counts()
        groups: dict[tuple[bytes, int], int] = {}
        owner: tuple[int, int] | None = None
        self._new.clear()
        for change in changes:
            if not isinstance(change, Put | Remove | Attach):
                continue
            path = change.path if isinstance(change, Remove) else change.entry.path
            directory = paths.parent(path)
            self._check_path(path, top)
            self._touched.add(directory)
            if path == dirtab.PATH:
                self.dirtab_changed = True
            if isinstance(change, Remove):
                yield from self._remove(change, counts)
                continue
            entry = change.entry
            if path == top:
                owner = entry.uid, entry.gid
            if directory not in self._directories:
                yield from self._imply(directory, owner or (entry.uid, entry.gid), counts)
            if isinstance(change, Attach):
                yield from self._attach(change, counts)
            else:
                yield from self._put(entry, directory, groups, counts)
        for (directory, _), group in groups.items():
            self._broken_groups.setdefault(directory, set()).add(group)
        yield from self._write_links()
        yield from self._mend_groups()
        self._bench.flush()
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
            entry = implied(directory, owner, self._mtime_ns)
            yield from self._put(entry, paths.parent(directory), {}, counts)
        elif row.entry.kind is not Kind.DIRECTORY:
            raise Rejected(
                f"{paths.display(directory)} is not a directory",
                reason="not_a_directory",
                hint="remove it first, or publish to another path",
                path=directory,
            )
        self._directories.add(directory)

    def _put(self, entry: Entry, directory: bytes, groups: dict[tuple[bytes, int], int], counts: Counts) -> Flow[None]:
        path = entry.path
        holder = yield from self._bench.inside(directory)
        old = None if directory in self._new and path not in self._new else holder.catalog.row(path)
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
        if path.endswith(MARKER) and paths.name(path) == MARKER:
            check_marker(entry)
            self._touched_markers.add(directory)
        if entry.kind is Kind.DIRECTORY:
            yield from self._put_directory(holder, entry, old)
            return
        if old is not None and old.entry.group:
            self._broken_groups.setdefault(directory, set()).add(old.entry.group)
        if entry.group:
            key = (directory, entry.group)
            if key not in groups:
                groups[key] = holder.next_group()
            entry = replace(entry, group=groups[key])
        if old is None:
            self._bench.insert(holder, Row(entry))
        else:
            self._bench.replace(holder, old, Row(entry))

    def _put_directory(self, holder: OpenCatalog, entry: Entry, old: Row | None) -> Flow[None]:
        path = entry.path
        self._touched.add(path)
        if old is None:
            self._bench.insert(holder, Row(entry, links=2))
            self._links[paths.parent(path)] += 1
            self._directories.add(path)
            self._new.add(path)
            return
        self._bench.replace(holder, old, replace(old, entry=entry))
        if old.transition is Transition.MOUNTPOINT:
            child = yield from self._bench.inside(path)
            self._bench.write(child, replace(old, entry=entry, transition=Transition.ROOT))

    def _attach(self, change: Attach, counts: Counts) -> Flow[None]:
        entry = change.entry
        path = entry.path
        if not path or entry.kind is not Kind.DIRECTORY or change.counters.keys() != set(counters.NAMES):
            raise Rejected(f"{paths.display(path)} cannot be attached", reason="bad_attach", path=path)
        holder = yield from self._bench.holder(path)
        if holder.catalog.row(path) is not None:
            raise Rejected(
                f"{paths.display(path)} is there already", reason="exists", hint="remove it first", path=path
            )
        row = Row(entry, change.links, Transition.MOUNTPOINT)
        self._bench.attach(holder, row, Nested(path, change.catalog, change.size), change.counters)
        self._links[paths.parent(path)] += 1
        self._directories.add(path)
        counts.added += _entries(change.counters) - change.made

    def _remove(self, change: Remove, counts: Counts) -> Flow[None]:
        path = change.path
        if not path:
            hint = "`stratus destroy` removes a whole repository"
            raise Rejected("the root of a repository cannot be removed", reason="bad_path", hint=hint, path=path)
        holder = yield from self._bench.holder(path)
        row = holder.catalog.row(path)
        if row is None:
            hint = "`stratus ls` shows what there is"
            raise Rejected(f"there is no {paths.display(path)}", reason="not_found", hint=hint, path=path)
        if row.entry.kind is Kind.DIRECTORY:
            content = yield from self._bench.inside(path)
            if not change.recursive and content.catalog.rows(path):
                raise Rejected(
                    f"{paths.display(path)} is not empty", reason="not_empty", hint="remove it recursively", path=path
                )
            yield from self._write_links()  # of what is below, before it is gone
            yield from self._remove_below(holder, row, counts)
            self._links[paths.parent(path)] -= 1
            if path in self._directories:
                self._directories = {known for known in self._directories if not paths.contains(path, known)}
                self._new &= self._directories
        elif row.entry.group:
            self._broken_groups.setdefault(paths.parent(path), set()).add(row.entry.group)
        if paths.name(path) == MARKER:
            self._touched_markers.add(paths.parent(path))
        self._bench.erase(holder, path)
        counts.removed += 1

    def _remove_below(self, holder: OpenCatalog, row: Row, counts: Counts) -> Flow[None]:
        """Empties the directory; nested catalogs in it are dropped whole, only their counters are looked at."""
        path = row.entry.path
        if row.transition is Transition.NONE:
            counts.removed += self._bench.erase_below(holder, path)
        for mountpoint in [known for known in holder.children if paths.contains(path, known)]:
            child = yield from self._bench.child(holder, mountpoint)
            counts.removed += _entries(counters.total(child.catalog.own, child.catalog.below)) - 1
            self._bench.drop(holder, mountpoint)

    def _write_links(self) -> Flow[None]:
        """Directories that got more sub directories, or fewer, have another link count."""
        links, self._links = self._links, Counter()
        for directory, change in links.items():
            if change:
                yield from self._bench.add_links(directory, change)

    def _mend_groups(self) -> Flow[None]:
        """Makes link counts of hard-link groups true again."""
        for directory, groups in self._broken_groups.items():
            holder = yield from self._bench.inside(directory)
            holder.catalog.mend_groups(directory, groups)
        self._broken_groups.clear()

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


def _entries(counts: Mapping[str, int]) -> int:
    """How many entries there are in a sub tree with these counters; each nested catalog's root has two rows."""
    return counters.rows_of(counts) - counts["nested"]
