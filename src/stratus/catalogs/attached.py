"""What is looked at before a ready-made catalog is attached, since the commit does not look inside."""

from __future__ import annotations

from collections.abc import Callable

from stratus.errors import Rejected
from stratus.formats import counters, paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Attach
from stratus.formats.counters import Counters
from stratus.formats.entries import Entry, Kind, Row, Transition

_SCHEMA = "2.5", 7


def verify_attached(attach: Attach, load: Callable[[Nested], bytes]) -> None:
    """Looks at the catalog of ``attach`` and at all that hang below it; one branch of them is in memory at a time.

    ``load`` gives the bytes of a catalog's SQLite file, verified against the digest. Raises Rejected unless root rows
    are those of the mountpoints, every row is where its path says, the schema is the newest and all counters are true.
    Whether the objects that the rows name are in the store is another question.
    """
    at = Nested(attach.entry.path, attach.catalog, attach.size)
    total = _verify(at, attach.entry, attach.links, load)
    if total != attach.counters:
        raise _wrong(at.path, "has other counters than its attach says")


def _verify(at: Nested, entry: Entry, links: int, load: Callable[[Nested], bytes]) -> Counters:
    """The true counters of a catalog and all below it, if its own say the same."""
    data = load(at)
    if len(data) != at.size:
        raise _wrong(at.path, f"has {len(data)} bytes instead of {at.size}")
    with Catalog.parse(data) as catalog:
        if (catalog.get_property("schema"), catalog.schema_revision) != _SCHEMA:
            raise _wrong(at.path, "is not of schema 2.5, revision 7")
        if catalog.root_path != at.path:
            raise _wrong(at.path, f"is made for {paths.display(catalog.root_path)}")
        if catalog.row(at.path) != Row(entry, links, Transition.ROOT):
            raise _wrong(at.path, "has another root than the directory where it is mounted")
        own, mountpoints = _recounted(catalog)
        nested = {reference.path: reference for reference in catalog.nested()}
        if nested.keys() != mountpoints.keys() or catalog.bind_mountpoints():
            raise _wrong(at.path, "has other references than mountpoints")
        own["nested"] = len(nested)
        below = counters.zero()
        for path, row in mountpoints.items():
            counters.add(below, _verify(nested[path], row.entry, row.links, load))
        if own != catalog.own or below != catalog.below:
            raise _wrong(at.path, "has counters that are not true")
        return counters.total(own, below)


def _recounted(catalog: Catalog) -> tuple[Counters, dict[bytes, Row]]:
    """The counters of all rows, and the mountpoints. Raises Rejected for a row that is not where it should be."""
    top = catalog.row(catalog.root_path)
    found = [] if top is None else [top]
    own = counters.zero()
    mountpoints = {}
    hashes = set()
    for row in found:  # which grows
        path, kind = row.entry.path, row.entry.kind
        counters.tally(own, row)
        hashes.add(paths.md5_halves(path))
        if row.hidden or row.transition is Transition.BIND or (row.transition is Transition.ROOT) != (row is top):
            raise _wrong(catalog.root_path, f"has a row at {paths.display(path)} that cannot be attached")
        if kind is Kind.DIRECTORY and row.transition is Transition.MOUNTPOINT:
            mountpoints[path] = row
        elif kind is Kind.DIRECTORY:
            below = catalog.rows(path)
            if not all(_named_well(child.entry.path, path) for child in below):
                raise _wrong(catalog.root_path, f"has bad names in {paths.display(path)}")
            found += below
    if hashes != catalog.path_hashes() or len(found) != len(hashes):
        raise _wrong(catalog.root_path, "has rows that are in no directory, or not at their path")
    return own, mountpoints


def _named_well(path: bytes, directory: bytes) -> bool:
    name = path[len(directory) + 1 :]
    return name not in (b"", b".", b"..") and len(name) <= paths.NAME_MAX and not {0, 0x2F} & set(name)


def _wrong(path: bytes, what: str) -> Rejected:
    return Rejected(
        f"the catalog of {paths.display(path)} {what}", reason="bad_attach", hint="build it again", path=path
    )
