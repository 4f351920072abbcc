"""Publishing: drives sources through a writer and makes the change set of what is different.

What is in the sources lands at a path and is merged into what is there; with ``replace`` the path becomes equal to the
sources. Entries that are in the tree already, just so, are left out of the change set.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from stratus.catalogs.balance import AUTOMATIC_MARKER
from stratus.catalogs.structure import MARKER
from stratus.errors import BadFormat, StratusError, UsageError
from stratus.formats import dirtab, paths
from stratus.formats.changes import Change, ChangeSet, Put, Remove, Tag, Untag, Usage
from stratus.formats.compression import Compression
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.receipt import Receipt
from stratus.ingest.contract import NewObject, Placement, Policy, Source
from stratus.repository.revision import Revision
from stratus.writers.contract import Forecast, Lease, Uploaded, Writer


@dataclass(frozen=True, slots=True)
class Options:
    """How to publish.

    Attributes:
        replace: make the path equal to the sources, instead of merging.
        catalog: make the path a nested catalog.
        owner: user and group id of all entries, None keeps the sources'.
        strip_components: leading components that names lose.
        xattrs: publish extended attributes too.
    """

    replace: bool = False
    catalog: bool = False
    owner: tuple[int, int] | None = None
    strip_components: int = 0
    xattrs: bool = False
    message: str = ""
    tag: str | None = None


def publish(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Receipt:
    """Publishes the sources, the later ones over the earlier ones.

    Raises BadSource, Rejected, Busy, StoreError; nothing is published then.
    """
    with writer.lease(path) as lease:
        return _submit(writer, _change_set(writer, lease, fqrn, path, sources, who, options, writer.upload))


def forecast(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Forecast:
    """What ``publish`` would do; nothing is stored. Raises what it raises."""
    with writer.lease(path) as lease:
        return writer.forecast(_change_set(writer, lease, fqrn, path, sources, who, options, writer.appraise))


def _change_set(
    writer: Writer,
    lease: Lease,
    fqrn: str,
    path: bytes,
    sources: Sequence[Source],
    who: str,
    options: Options,
    send: Callable[[Lease, Iterable[NewObject]], Uploaded],
) -> ChangeSet:
    """Reads the sources, sends their objects, and says what is different from the lease's base."""
    if options.catalog and not path:
        raise UsageError("the root of a repository is a catalog already", hint="give a path: NAME:/directory")
    begun = time.monotonic()
    entries: dict[bytes, Entry] = {}
    warnings: list[str] = []
    base = writer.base(lease)
    policy = replace(writer.policy(lease), xattrs=options.xattrs)
    content = _content(sources, policy, Placement(path, options.owner, options.strip_components), warnings)
    if options.catalog:
        content = _with_marker(content, path, policy, options.owner)
    uploaded = send(lease, _sorted_out(content, entries, base))
    objects = {known: None for entry in entries.values() if entry.content for known in entry.content.objects()}
    return ChangeSet(
        id=lease.id,
        repository=fqrn,
        path=path,
        changes=tuple(_changes(base, entries, path, options.replace)),
        objects=tuple(objects),
        base=lease.base,
        writer=who,
        message=options.message,
        tag=options.tag,
        usage=_usage(uploaded, time.monotonic() - begun),
        warnings=tuple(warnings),
    )


def remove(writer: Writer, fqrn: str, path: bytes, who: str, recursive: bool, message: str = "") -> Receipt:
    """Removes what is at ``path``. Raises Rejected."""
    with writer.lease(path) as lease:
        return _submit(writer, _small(lease, fqrn, path, [Remove(path, recursive)], who, message))


def tag(writer: Writer, fqrn: str, name: str, revision: int | None, who: str, description: str = "") -> Receipt:
    """Names a revision (None: the newest). Raises Rejected."""
    with writer.lease(None) as lease:
        change = Tag(name, lease.base if revision is None else revision, description)
        return _submit(writer, _small(lease, fqrn, b"", [change], who, description))


def untag(writer: Writer, fqrn: str, name: str, who: str) -> Receipt:
    """Forgets a name. Raises Rejected."""
    with writer.lease(None) as lease:
        return _submit(writer, _small(lease, fqrn, b"", [Untag(name)], who, ""))


def _small(lease: Lease, fqrn: str, path: bytes, changes: Sequence[Change], who: str, message: str) -> ChangeSet:
    return ChangeSet(lease.id, fqrn, path, tuple(changes), base=lease.base, writer=who, message=message)


def _submit(writer: Writer, change_set: ChangeSet) -> Receipt:
    receipt = writer.receipt(writer.submit(change_set))
    if receipt is None:
        raise StratusError(f"change set {change_set.id} has no receipt", hint="look for it with `stratus log`")
    return receipt


# -- content ---------------------------------------------------------------------------------------------------------


def _content(
    sources: Sequence[Source], policy: Policy, placement: Placement, warnings: list[str]
) -> Iterator[NewObject | Entry]:
    for number, source in enumerate(sources):
        for item in source.read(policy, placement, warnings.append):
            # Group numbers are each source's own.
            if isinstance(item, Entry) and item.group:
                yield replace(item, group=item.group * len(sources) + number)
            else:
                yield item


def _with_marker(
    content: Iterable[NewObject | Entry], path: bytes, policy: Policy, owner: tuple[int, int] | None
) -> Iterator[NewObject | Entry]:
    """The content, and the marker that makes ``path`` a nested catalog if it has none."""
    marker = path + b"/" + MARKER
    there = False
    for item in content:
        there = there or (isinstance(item, Entry) and item.path == marker)
        yield item
    if not there:
        empty = Compression.ZLIB.pack(b"")
        digest = policy.algorithm.digest(empty)
        content_of_marker = Content(policy.algorithm, digest)
        for object_id in content_of_marker.objects():
            yield NewObject(object_id, empty, 0)
        uid, gid = owner or (0, 0)
        yield Entry(marker, Kind.FILE, 0o644, uid, gid, 0, 0, content=content_of_marker)


def _sorted_out(
    content: Iterable[NewObject | Entry], entries: dict[bytes, Entry], base: Revision
) -> Iterator[NewObject]:
    """The objects; the entries go to ``entries``.

    The last object waits for its entry, and the entry is looked up in the base before the object goes on: so the
    catalog that knows the object, if the file did not change, is loaded when the writer asks what is known.
    """
    held: NewObject | None = None
    for item in content:
        if isinstance(item, Entry):
            entries[item.path] = item
            base.lookup(item.path)
        if held is not None:
            yield held
            held = None
        if isinstance(item, NewObject):
            held = item
    if held is not None:
        yield held


def _usage(uploaded: Uploaded, seconds: float) -> Usage:
    return Usage(
        seconds,
        uploaded.new,
        uploaded.present,
        uploaded.plain_bytes,
        uploaded.stored_bytes,
        uploaded.uploaded_bytes,
    )


# -- changes ---------------------------------------------------------------------------------------------------------


def _changes(base: Revision, entries: dict[bytes, Entry], path: bytes, replace_all: bool) -> Iterator[Change]:
    """The records that make the base hold the entries, sorted by components, Remove before Put."""
    removals = _surplus(base, entries, path) if replace_all else set()
    groups = _groups(entries.values())
    for changed in sorted(entries.keys() | removals, key=paths.components):
        entry = entries.get(changed)
        if entry is None:
            yield Remove(changed, recursive=True)
            continue
        old = base.lookup(changed)
        if old is not None and old.kind is not entry.kind:
            yield Remove(changed, recursive=True)
        elif old is not None and _same(base, old, entry, groups):
            continue
        yield Put(entry)


def _surplus(base: Revision, entries: dict[bytes, Entry], path: bytes) -> set[bytes]:
    """What the base has below ``path`` and the entries do not name, only the tops of removed sub trees."""
    top = base.lookup(path)
    if top is None or top.kind is not Kind.DIRECTORY:
        return set()
    named = set(entries)
    for known in entries:
        while (known := paths.parent(known)) not in named:
            named.add(known)
    replaced = {known for known in named if (entry := entries.get(known)) and entry.kind is not Kind.DIRECTORY}
    kept = list(base.walk(path, prune=lambda entry: entry.path not in named or entry.path in replaced))
    structure = _structure(base, kept)
    return {entry.path for entry in kept if entry.path not in named and entry.path not in structure}


def _structure(base: Revision, entries: Iterable[Entry]) -> set[bytes]:
    """The markers that no source has to have: those that balancing and the dirtab made."""
    present = {entry.path for entry in entries}
    automatic = {paths.parent(path) for path in present if paths.name(path) == AUTOMATIC_MARKER}
    rules = base.lookup(dirtab.PATH)
    marked = {paths.parent(path) for path in present if paths.name(path) == MARKER}
    if rules is not None:
        with contextlib.suppress(BadFormat):
            matched = Dirtab.parse(base.read(rules))
            automatic |= {directory for directory in marked if matched.matches(directory)}
    return {directory + b"/" + name for directory in automatic for name in (MARKER, AUTOMATIC_MARKER)}


def _groups(entries: Iterable[Entry]) -> dict[tuple[bytes, int], set[bytes]]:
    """The members of each hard-link group, by directory and number."""
    groups: dict[tuple[bytes, int], set[bytes]] = {}
    for entry in entries:
        if entry.group:
            groups.setdefault((paths.parent(entry.path), entry.group), set()).add(entry.path)
    return groups


def _same(base: Revision, old: Entry, new: Entry, groups: dict[tuple[bytes, int], set[bytes]]) -> bool:
    """Whether nothing has to be done; numbers of hard-link groups and sizes of directories do not matter."""
    if replace(old, group=0) != replace(new, group=0, size=old.size if new.kind is Kind.DIRECTORY else new.size):
        return False
    if not old.group and not new.group:
        return True
    directory = paths.parent(old.path)
    there = _groups(base.list(directory)).get((directory, old.group), {old.path})
    return there == groups.get((directory, new.group), {new.path})
