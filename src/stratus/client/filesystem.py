"""The read-only file system: answers the kernel's calls from a tree of rows and a content reader."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from stratus.catalogs.tree import Mounted
from stratus.client.absent import AbsentNames
from stratus.client.content import ContentReader
from stratus.client.fuse import protocol
from stratus.client.fuse.calls import Later, Reply
from stratus.client.inodes import InodeTable, Node, inode_of, same_data
from stratus.client.xattrs import Facts, Live, MagicXattrs, repository_counters, wants_catalog
from stratus.errors import StratusError
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Row

_KEEP = 300  # seconds that the kernel believes what it was told: long, because it is told what a new revision changed

_INDEX_BITS = 32  # of a listing's offset; above them is the generation
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_VARIABLE = re.compile(rb"\$\(([^)]*)\)")

T = TypeVar("T")
log = logging.getLogger(__name__)


class Tree(Protocol):
    """An immutable tree of rows; thread-safe. Any method but ``ready`` may raise StratusError."""

    @property
    def root(self) -> Mounted:
        """The root catalog."""
        ...

    @property
    def loaded(self) -> int:
        """How many catalogs have been loaded so far."""
        ...

    def row(self, path: bytes) -> Row | None:
        """The row at ``path``, ``b""`` for the root; None if nothing is there."""
        ...

    def rows(self, path: bytes) -> Sequence[Row]:
        """The rows right below a directory, in a fixed order, hidden ones included; none of what is no directory."""
        ...

    def catalog_of(self, directory: bytes) -> Mounted:
        """The catalog that has the rows below ``directory``."""
        ...

    def ready(self, directory: bytes) -> bool:
        """Whether the others answer for it, and ``row`` for what lies in it, without loading a catalog."""
        ...


class Kernel(Protocol):
    """Who is to be told of changes (``fuse.notices.Notices``). Any method may wait for calls under way."""

    def entry(self, parent: int, name: bytes) -> None:
        """The name in the directory is gone or stands for something else."""
        ...

    def attributes(self, node: int) -> None:
        """The attributes of the node have changed."""
        ...

    def listing(self, node: int) -> None:
        """What lies in the directory may have changed."""
        ...


class _Shown(msgspec.Struct, frozen=True):
    """The revision that answers come from; ``generation`` counts them since the mount."""

    tree: Tree
    facts: Facts
    generation: int = 0


class _Listing(msgspec.Struct, frozen=True):
    """What an open directory lists; taken as a whole, so that offsets stay what they are until it is read anew.

    Without rows until the kernel asks: it may have the whole listing in its cache.
    """

    shown: _Shown
    rows: Sequence[Row] | None


class _Comparison:
    """Two trees, and which directories are surely the same in both; loads only catalogs that differ."""

    def __init__(self, before: Tree, after: Tree) -> None:
        self.before = before
        self.after = after
        self._known: dict[bytes, bool] = {}

    def untouched(self, directory: bytes) -> bool:
        """Whether the rows right below a directory are in the same catalog at the same place. Raises StratusError."""
        known = self._known.get(directory)
        if known is None:
            known = self._known[directory] = self._compare(directory)
        return known

    def _compare(self, directory: bytes) -> bool:
        tops = [*paths.ancestors(directory), directory]
        one, other = self.before.root, self.after.root
        while one.at.digest != other.at.digest:
            here, there = (
                next((mounted.references[top] for top in tops if top in mounted.references), None)
                for mounted in (one, other)
            )
            if here is None or there is None or here.path != there.path:
                return False
            if here.digest == there.digest:
                return True
            one, other = self.before.catalog_of(here.path), self.after.catalog_of(there.path)
        return True


def expand(target: bytes, environment: Mapping[bytes, bytes]) -> bytes:
    """A symlink's target with its ``$(VAR)`` and ``$(VAR:-default)`` replaced, as the stock client does."""
    if b"$(" not in target:
        return target

    def value(match: re.Match[bytes]) -> bytes:
        variable, _, default = match[1].partition(b":-")
        return environment.get(variable, default)

    return _VARIABLE.sub(value, target)


class ReadOnlyFileSystem:
    """One mounted repository; a ``fuse.calls.FileSystem``."""

    def __init__(
        self,
        tree: Tree,
        facts: Facts,
        reader: ContentReader,
        *,
        live: Live | None = None,
        environment: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Raises StratusError if the root cannot be read or is not there.

        Args:
            live: more magic attributes.
            environment: what symlinks with variables see, that of the process by default.
        """
        root = tree.row(b"")
        if root is None:
            raise StratusError("the tree has no root")
        self._shown = _Shown(tree, facts)
        self._lock = threading.Lock()  # held while nodes are made from rows of the shown tree, so that it cannot change
        self._reader = reader
        self._absent = AbsentNames()
        self._environment = os.environb if environment is None else environment
        self._inodes = InodeTable(root)
        self._listings: dict[int, _Listing] = {}
        self._handles = itertools.count(1)
        self._opened = 0
        self._errors = 0
        self._last_error = 0
        self._xattrs = MagicXattrs({**self._live(), **(live or {})})

    def _live(self) -> Live:
        def fact(name: str) -> Callable[[], str]:
            return lambda: self._shown.facts.attributes()[name]

        started = time.monotonic()
        return {
            **{name: fact(name) for name in self._shown.facts.attributes()},
            "repo_counters": lambda: repository_counters(self._shown.tree.root),
            "nclg": lambda: str(self._shown.tree.loaded),
            "nopen": lambda: str(self._opened),
            "ndiropen": lambda: str(len(self._listings)),
            "nioerr": lambda: str(self._errors),
            "timestamp_last_ioerr": lambda: str(self._last_error),
            "uptime": lambda: str(int(time.monotonic() - started) // 60),
        }

    # -- names and attributes ----------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Reply:
        if len(name) > protocol.NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "name too long")
        directory = self._path(parent)
        path = directory + b"/" + name

        def finish(_: _Shown, row: Row | None) -> bytes:
            return protocol.no_entry(self._absent.tell(parent, name)) if row is None else self._entry(row)

        return self._soon(directory, lambda tree: tree.row(path), finish)

    def forget(self, node: int, lookups: int) -> None:
        self._inodes.forget(node, lookups)

    def getattr(self, node: int) -> Reply:
        return protocol.attr_reply(self._attributes(self._inodes.get(node)), _KEEP)

    def readlink(self, node: int) -> Reply:
        return expand(self._inodes.get(node).row.entry.target, self._environment)

    def _path(self, node: int) -> bytes:
        return self._inodes.get(node).row.entry.path

    def _entry(self, row: Row) -> bytes:
        node = self._inodes.look_up(row)
        return protocol.entry(node.number, self._attributes(node), _KEEP)

    def _attributes(self, node: Node) -> bytes:
        row = node.row
        entry = row.entry
        return protocol.attributes(
            node.inode,
            self._size(entry),
            entry.mtime_ns,
            entry.st_mode,
            row.links,
            entry.uid,
            entry.gid,
            entry.rdev,
        )

    def _size(self, entry: Entry) -> int:
        if entry.kind is Kind.FILE or entry.kind is Kind.DIRECTORY:
            return entry.size
        return len(expand(entry.target, self._environment)) if entry.kind is Kind.SYMLINK else 0

    # -- files -------------------------------------------------------------------------------------------------------

    def open(self, node: int) -> Reply:
        """Needs no handle, because a node's data never change."""
        content = self._inodes.get(node).row.entry.content
        self._opened += 1
        bypass = content is not None and content.direct_io
        return protocol.open_reply(0, protocol.NO_FLUSH | (protocol.DIRECT_IO if bypass else protocol.KEEP_CACHE))

    def read(self, node: int, offset: int, size: int) -> Reply:
        entry = self._inodes.get(node).row.entry
        data = self._counted(lambda: self._reader.read_cached(entry, offset, size))
        if data is not None:
            return data
        return Later(lambda: self._counted(lambda: self._reader.read(entry, offset, size)), _as_it_is)

    # -- directories -------------------------------------------------------------------------------------------------

    def opendir(self, node: int) -> Reply:
        self._inodes.get(node)
        handle = next(self._handles)
        self._listings[handle] = _Listing(self._shown, None)
        return protocol.open_reply(handle, protocol.KEEP_CACHE | protocol.CACHE_DIR)

    def readdir(self, node: int, handle: int, offset: int, size: int, plus: bool) -> Reply:
        path = self._path(node)
        try:
            listing = self._listings[handle]
        except KeyError:
            raise OSError(errno.EBADF, "unknown handle") from None

        def taken(shown: _Shown, rows: Sequence[Row]) -> Sequence[Row]:
            visible = [row for row in rows if not row.hidden]
            self._listings[handle] = _Listing(shown, visible)
            return visible

        def packed(rows: Sequence[Row]) -> bytes:
            with self._lock:
                return self._packed(path, rows, listing.shown, offset & _INDEX_MASK, size, plus)

        # The kernel caches what is read from the start: after a change that must not be what was there before.
        if offset == 0 and (listing.rows is None or listing.shown is not self._shown):
            return self._soon(
                path,
                lambda tree: tree.rows(path),
                lambda shown, rows: self._packed(path, taken(shown, rows), shown, 0, size, plus),
            )
        if listing.rows is None:  # the kernel had the beginning in its cache
            return Later(
                lambda: self._counted(lambda: listing.shown.tree.rows(path)),
                lambda rows: packed(taken(listing.shown, rows)),
            )
        return packed(listing.rows)

    def _packed(self, path: bytes, rows: Sequence[Row], shown: _Shown, index: int, size: int, plus: bool) -> bytes:
        """Entries from ``index`` on; those of a revision that is not shown any more come without their attributes.

        Offsets differ between generations, so that the kernel never joins pieces of two.
        """
        current = shown is self._shown
        generation = shown.generation << _INDEX_BITS
        packed = bytearray()
        for position in range(index, len(rows) + 2):
            row = rows[position - 2] if position >= 2 else None
            if row is None:
                name, mode = (b".", b"..")[position], Kind.DIRECTORY.value
                inode = self._directory_inode(paths.parent(path) if position else path)
            else:
                name, mode, inode = paths.name(row.entry.path), row.entry.st_mode, inode_of(row.entry)
            piece = protocol.dirent(inode, name, mode, generation | position + 1)
            if len(packed) + len(piece) + (protocol.ENTRY_SIZE if plus else 0) > size:
                break
            if plus:
                packed += protocol.no_lookup() if row is None or not current else self._entry(row)
            packed += piece
        return bytes(packed)

    def releasedir(self, handle: int) -> None:
        self._listings.pop(handle, None)

    # -- extended attributes -----------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> Reply:
        entry = self._inodes.get(node).row.entry

        def finish(_: _Shown, catalog: Mounted | None) -> bytes:
            value = self._xattrs.get(entry, name, catalog)
            if value is None:
                raise OSError(errno.ENODATA, "no such attribute")
            return value

        if wants_catalog(name):
            return self._soon(entry.path, lambda tree: tree.catalog_of(entry.path), finish)
        return finish(self._shown, None)

    def listxattr(self, node: int) -> list[bytes]:
        return self._xattrs.names(self._inodes.get(node).row.entry)

    # -- following ---------------------------------------------------------------------------------------------------

    def follow(self, tree: Tree, facts: Facts, kernel: Kernel) -> None:
        """Shows another revision from now on, and tells the kernel what of all that it knows has changed.

        To be called by one thread at a time, not the one that answers calls. Raises StratusError, with the old revision
        still shown, if the catalogs that the known nodes need cannot be loaded.
        """
        comparison = _Comparison(self._shown.tree, tree)
        for directory in {paths.parent(node.row.entry.path) for node in self._inodes.nodes()}:
            if not comparison.untouched(directory):
                tree.catalog_of(directory)
        with self._lock:
            self._shown = _Shown(tree, facts, self._shown.generation + 1)
            absent = self._absent.all()
        for parent, name in absent:
            self._tell_of_coming(comparison, parent, name, kernel)
        for node in self._inodes.nodes():
            try:
                self._tell(comparison, node, kernel)
            except StratusError as error:  # a catalog that only a node needs that came while we looked
                log.warning("%s may be shown as it was for %d s: %s", node.row.entry.path, _KEEP, error)

    def _tell_of_coming(self, comparison: _Comparison, parent: int, name: bytes, kernel: Kernel) -> None:
        """Of a name that was absent, if it is there now."""
        try:
            directory = self._path(parent)
        except OSError:  # forgotten, and what was below with it
            return
        try:
            if comparison.untouched(directory) or comparison.after.row(directory + b"/" + name) is None:
                return
        except StratusError as error:
            log.warning("%s is not known: %s", directory + b"/" + name, error)
        kernel.entry(parent, name)

    def _tell(self, comparison: _Comparison, node: Node, kernel: Kernel) -> None:
        entry = node.row.entry
        directory = paths.parent(entry.path)
        if not comparison.untouched(directory):
            for path in _names(comparison.before, entry):
                row = comparison.after.row(path)
                if row is None or not same_data(entry, row.entry):
                    parent = self._inodes.directory(directory)
                    if parent is not None and path:
                        kernel.entry(parent.number, paths.name(path))
                elif row != node.row:
                    node.row = row
                    kernel.attributes(node.number)
        # Nobody has listed a directory whose catalog is not loaded.
        if (
            entry.kind is Kind.DIRECTORY
            and comparison.before.ready(entry.path)
            and not comparison.untouched(entry.path)
        ):
            kernel.listing(node.number)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _soon(self, directory: bytes, ask: Callable[[Tree], T], finish: Callable[[_Shown, T], bytes]) -> Reply:
        """Asks the tree, at once if what is in ``directory`` is ready; ``finish`` sees only what the shown one says."""
        with self._lock:
            shown = self._shown
            if shown.tree.ready(directory):
                return finish(shown, self._counted(lambda: ask(shown.tree)))

        def work() -> tuple[_Shown, T]:
            shown = self._shown
            return shown, self._counted(lambda: ask(shown.tree))

        def late(result: tuple[_Shown, T]) -> bytes:
            while True:
                with self._lock:
                    if result[0] is self._shown:
                        return finish(*result)
                result = work()

        return Later(work, late)

    def _counted(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except StratusError:
            self._errors += 1
            self._last_error = int(time.time())
            raise

    def _directory_inode(self, path: bytes) -> int:
        node = self._inodes.directory(path)
        return protocol.ROOT if node is None else node.inode


def _as_it_is(data: bytes) -> bytes:
    return data


def _names(tree: Tree, entry: Entry) -> Sequence[bytes]:
    """All paths of a node: those of its hard links."""
    if entry.group == 0:
        return (entry.path,)
    return [row.entry.path for row in tree.rows(paths.parent(entry.path)) if row.entry.group == entry.group] or [
        entry.path
    ]
