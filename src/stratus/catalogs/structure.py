"""The structure of catalogs: splitting, merging, and who says where.

A directory is a nested catalog when a ``.cvmfscatalog`` is in it. Users put these markers; the dirtab puts them into
directories that match its rules; balancing puts them, with a ``.cvmfsautocatalog`` beside, where a catalog has become
too large, and takes those away that have become too small.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from stratus.catalogs.balance import AUTOMATIC_MARKER, Weights, cuts
from stratus.catalogs.workbench import OpenCatalog, Workbench
from stratus.errors import Rejected
from stratus.formats import counters, paths
from stratus.formats.compression import Compression
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Content, Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.stores.flows import Flow

MARKER = b".cvmfscatalog"
EMPTY = Compression.ZLIB.pack(b"")


class Made:
    """What looking after the structure made.

    Attributes:
        markers: the directories that got markers; the ``empty`` object must be in the store then.
        warnings: what could not be done.
    """

    def __init__(self, algorithm: Algorithm, mtime_ns: int) -> None:
        self.algorithm = algorithm
        self.mtime_ns = mtime_ns
        self.markers: set[bytes] = set()
        self.warnings: list[str] = []

    @property
    def empty(self) -> ObjectId:
        """The object that all markers have as content."""
        return ObjectId(self.algorithm.digest(EMPTY))


def check_marker(entry: Entry) -> None:
    """Raises Rejected if the entry, which is named like a marker, cannot be one."""
    directory = paths.parent(entry.path)
    if entry.kind is Kind.FILE and directory:
        return
    where = "the root of a repository" if not directory else paths.display(directory)
    what = "a marker" if entry.kind is Kind.FILE else f"a {entry.kind.name.lower()} named {MARKER.decode()}"
    raise Rejected(
        f"{where} cannot have {what}",
        reason="bad_marker",
        hint=f"{MARKER.decode()} is a regular file in a directory that shall be a nested catalog",
        path=entry.path,
    )


def implied(directory: bytes, owner: tuple[int, int], mtime_ns: int) -> Entry:
    """A directory that must be there because something is in it."""
    return Entry(directory, Kind.DIRECTORY, 0o755, *owner, 4096, mtime_ns)


def marker(directory: Entry, name: bytes, made: Made) -> Entry:
    """The file of that name that makes a directory a nested catalog."""
    content = Content(made.algorithm, made.empty.digest)
    path = directory.path + b"/" + name
    return Entry(path, Kind.FILE, 0o644, directory.uid, directory.gid, 0, made.mtime_ns, content=content)


def follow_markers(bench: Workbench, directories: Iterable[bytes]) -> Flow[None]:
    """Splits and merges where markers came or went: the deepest first, so that rows move once."""
    for directory in sorted(directories, key=lambda path: (-path.count(b"/"), path)):
        parent = yield from bench.holder(directory)
        row = parent.catalog.row(directory)
        if row is None or row.entry.kind is not Kind.DIRECTORY:
            continue
        inside = yield from bench.inside(directory)
        marked = inside.catalog.row(directory + b"/" + MARKER) is not None
        nested = directory in parent.children
        if marked and not nested:
            yield from split(bench, parent, row)
        elif nested and not marked:
            merge(bench, parent, inside, row)


def split(bench: Workbench, parent: OpenCatalog, row: Row) -> Flow[None]:
    """Moves what is below a directory into a nested catalog of its own."""
    path = row.entry.path
    child = bench.create(replace(row, transition=Transition.ROOT))
    parent.catalog.move_below(path, child.catalog)
    for mountpoint in [known for known in parent.children if paths.contains(path, known)]:
        grandchild = yield from bench.child(parent, mountpoint)
        counters.add(parent.catalog.below, grandchild.accounted, -1)
        counters.add(child.catalog.below, grandchild.accounted)
        bench.move_reference(parent, child, mountpoint)
    bench.write(parent, replace(row, transition=Transition.MOUNTPOINT))
    parent.children[path] = None


def merge(bench: Workbench, parent: OpenCatalog, child: OpenCatalog, row: Row) -> None:
    """Moves what is in a nested catalog back into its parent, whose row of it is ``row``."""
    path = row.entry.path
    child.catalog.move_below(path, parent.catalog, parent.reserve_groups(child.reserve_groups(0)))
    counters.add(parent.catalog.below, child.catalog.below)
    for mountpoint in list(child.children):
        bench.move_reference(child, parent, mountpoint)
    bench.write(parent, replace(row, transition=Transition.NONE))
    bench.dissolve(parent, path)


# -- the dirtab ------------------------------------------------------------------------------------------------------


def follow_dirtab(bench: Workbench, dirtab: Dirtab, directories: Iterable[bytes], made: Made) -> Flow[None]:
    """Puts markers into those of the directories, and of their ancestors, that match."""
    wanted = {path for directory in directories for path in (directory, *paths.ancestors(directory))}
    for directory in sorted(wanted, key=paths.components):
        if dirtab.matches(directory):
            yield from _mark(bench, directory, made, MARKER)


def follow_whole_dirtab(bench: Workbench, dirtab: Dirtab, made: Made, top: bytes = b"") -> Flow[None]:
    """Puts markers into all directories that match, as far down as the rules reach."""
    inside = yield from bench.inside(top)
    for row in inside.catalog.rows(top):
        path = row.entry.path
        if row.entry.kind is not Kind.DIRECTORY or row.hidden:
            continue
        if dirtab.matches(path):
            yield from _mark(bench, path, made, MARKER)
        if dirtab.leads_to(path):
            yield from follow_whole_dirtab(bench, dirtab, made, path)


# -- balancing -------------------------------------------------------------------------------------------------------


def balance(bench: Workbench, weights: Weights, made: Made) -> Flow[None]:
    """Merges automatic catalogs that were touched and are too small, then cuts touched ones that are too large."""
    for path in sorted(bench.open, key=lambda path: (-path.count(b"/"), path)):
        this = bench.open[path]
        if path and this.dirty and _rows(this) < weights.least and this.catalog.row(path + b"/" + AUTOMATIC_MARKER):
            for name in (MARKER, AUTOMATIC_MARKER):
                bench.erase(this, path + b"/" + name)
            parent = yield from bench.holder(path)
            merge(bench, parent, this, bench.required(parent, path))
    for path, this in list(bench.open.items()):
        if not this.dirty or _rows(this) <= weights.most:
            continue
        directories = cuts(path, this.catalog.directories(), weights)
        for directory in directories:
            yield from _mark(bench, directory, made, MARKER, AUTOMATIC_MARKER)
            yield from split(bench, this, bench.required(this, directory))
        for top in (path, *directories):
            rows = _rows(bench.open[top])
            if rows > weights.most:
                made.warnings.append(too_large(top, rows))


def too_large(top: bytes, rows: int) -> str:
    """The warning for a catalog that stays larger than it should be."""
    return f"the catalog of {paths.display(top)} has {rows} rows: no directory in it can be cut off"


def _rows(this: OpenCatalog) -> int:
    return counters.rows_of(this.catalog.own)


def _mark(bench: Workbench, directory: bytes, made: Made, *names: bytes) -> Flow[None]:
    """Puts markers of these names into a directory; nothing happens if it is none, or has them."""
    holder = yield from bench.holder(directory)
    row = holder.catalog.row(directory)
    if row is None or row.entry.kind is not Kind.DIRECTORY:
        return
    inside = yield from bench.inside(directory)
    for name in names:
        if inside.catalog.row(directory + b"/" + name) is None:
            entry = marker(row.entry, name, made)
            bench.write(inside, Row(entry))
            made.markers.add(directory)
