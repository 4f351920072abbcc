"""Publishing: drives sources through a writer and makes the change set of what is different.

What is in the sources lands at a path and is merged into what is there; with ``replace`` the path becomes equal to the
sources. Entries that are in the tree already, just so, are left out of the change set.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from stratus.catalogs.balance import AUTOMATIC_MARKER
from stratus.catalogs.structure import MARKER
from stratus.errors import BadFormat, StratusError, UsageError
from stratus.formats import dirtab, paths
from stratus.formats.changes import Change, ChangeSet, Put, Remove, Tag, Untag, Usage
from stratus.formats.dirtab import Dirtab
from stratus.formats.entries import Entry, Kind
from stratus.formats.hashes import ObjectId
from stratus.formats.receipt import Receipt
from stratus.ingest.contract import Body, Draft, Placement, Progress, Source, Warn
from stratus.ingest.pipeline import Pipeline
from stratus.repository.revision import Revision
from stratus.writers.contract import Forecast, Lease, Upload, Uploaded, Writer

_LOOKED_UP = 3  # entries of a directory; for more of them it is listed


@dataclass(frozen=True, slots=True)
class Options:
    """How to publish.

    Attributes:
        replace: make the path equal to the sources, instead of merging.
        catalog: make the path a nested catalog.
        owner: user and group id of all entries, None keeps the sources'.
        strip_components: leading components that names lose.
        xattrs: publish extended attributes too.
        workers: processes that pack and upload; 0 does it in this one, None takes one per processor.
        progress: is told how far it is.
    """

    replace: bool = False
    catalog: bool = False
    owner: tuple[int, int] | None = None
    strip_components: int = 0
    xattrs: bool = False
    message: str = ""
    tag: str | None = None
    workers: int | None = None
    progress: Progress | None = None


def publish(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Receipt:
    """Publishes the sources, the later ones over the earlier ones.

    Raises BadSource, Rejected, Busy, StoreError; nothing is published then.
    """
    with writer.lease(path) as lease:
        return _submit(writer, _change_set(writer, lease, fqrn, path, sources, who, options, writer.upload(lease)))


def forecast(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Forecast:
    """What ``publish`` would do; nothing is stored. Raises what it raises."""
    with writer.lease(path) as lease:
        return writer.forecast(_change_set(writer, lease, fqrn, path, sources, who, options, writer.appraise(lease)))


def _change_set(
    writer: Writer,
    lease: Lease,
    fqrn: str,
    path: bytes,
    sources: Sequence[Source],
    who: str,
    options: Options,
    upload: Upload,
) -> ChangeSet:
    """Reads the sources, delivers their objects, and says what is different from the lease's base."""
    if options.catalog and not path:
        raise UsageError("the root of a repository is a catalog already", hint="give a path: NAME:/directory")
    begun = time.monotonic()
    warnings: list[str] = []
    base = writer.base(lease)
    placement = Placement(path, options.owner, options.strip_components, options.xattrs)
    drafts = _drafts(sources, placement, warnings.append)
    if options.catalog:
        drafts = _with_marker(drafts, path, options.owner)
    pipeline = Pipeline(writer.policy(lease), upload, warnings.append, options.workers, options.progress)
    entries = _packed(drafts, pipeline)
    return ChangeSet(
        id=lease.id,
        repository=fqrn,
        path=path,
        changes=tuple(_changes(base, entries, path, options.replace)),
        objects=tuple(_objects(entries.values())),
        base=lease.base,
        writer=who,
        message=options.message,
        tag=options.tag,
        usage=_usage(upload.uploaded, time.monotonic() - begun),
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


def _drafts(sources: Sequence[Source], placement: Placement, warn: Warn) -> Iterator[Draft]:
    for number, source in enumerate(sources):
        for draft in source.scan(placement, warn):
            # Group numbers are each source's own.
            yield draft._replace(group=draft.group * len(sources) + number) if draft.group else draft


def _with_marker(drafts: Iterable[Draft], path: bytes, owner: tuple[int, int] | None) -> Iterator[Draft]:
    """The drafts, and the marker that makes ``path`` a nested catalog if it has none."""
    marker = path + b"/" + MARKER
    there = False
    for draft in drafts:
        there = there or draft.path == marker
        yield draft
    if not there:
        uid, gid = owner or (0, 0)
        yield Draft(marker, Kind.FILE, 0o644, uid, gid, 0, 0, body=Body(b"", 0))


def _packed(drafts: Iterable[Draft], pipeline: Pipeline) -> dict[bytes, Entry]:
    """The entries, by path; hard links share what is packed."""
    found: dict[bytes, Draft] = {}
    linked: set[Body] = set()
    with pipeline:
        for draft in drafts:
            path, body = draft.path, draft.body
            found[path] = draft
            if body is not None and body not in linked:
                linked.add(body)
                pipeline.add(path, body)
        pipeline.finish()
    return {path: draft.entry() for path, draft in found.items()}


def _objects(entries: Iterable[Entry]) -> Iterator[ObjectId]:
    """All that the entries name, each once."""
    seen: set[bytes] = set()
    for entry in entries:
        content = entry.content
        if content is None or (content.digest is not None and content.digest.raw in seen):
            continue
        for object_id in content.objects():
            name = object_id.digest.raw + object_id.suffix.encode()
            if name not in seen:
                seen.add(name)
                yield object_id


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
    there = _Comparison(base, entries)
    # Names hold no NUL: this is the order of components.
    for changed in sorted(entries.keys() | removals, key=lambda path: path.replace(b"/", b"\0")):
        entry = entries.get(changed)
        if entry is None:
            yield Remove(changed, recursive=True)
            continue
        old = there.lookup(changed)
        if old is not None and old.kind is not entry.kind:
            yield Remove(changed, recursive=True)
        elif old is not None and _same(base, old, entry, groups):
            continue
        yield Put(entry)


class _Comparison:
    """The base's entries at the paths of others; a directory that most of is asked for is listed at once."""

    def __init__(self, base: Revision, paths_: Iterable[bytes]) -> None:
        self._base = base
        self._asked = Counter(map(paths.parent, paths_))
        self._listed: dict[bytes, dict[bytes, Entry] | None] = {}

    def lookup(self, path: bytes) -> Entry | None:
        """As ``Revision.lookup``."""
        directory = paths.parent(path)
        try:
            listed = self._listed[directory]
        except KeyError:
            listed = self._listed[directory] = self._list(directory)
        return self._base.lookup(path) if listed is None else listed.get(path)

    def _list(self, directory: bytes) -> dict[bytes, Entry] | None:
        """None if looking each path up is less work."""
        if directory:
            above = self._listed.get(paths.parent(directory))
            if above is not None and directory not in above:
                return {}
        if self._asked[directory] < _LOOKED_UP:
            return None
        return {row.entry.path: row.entry for row in self._base.tree.rows(directory)}


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
    if old == new and not old.group:
        return True
    if replace(old, group=0) != replace(new, group=0, size=old.size if new.kind is Kind.DIRECTORY else new.size):
        return False
    if not old.group and not new.group:
        return True
    directory = paths.parent(old.path)
    there = _groups(base.list(directory)).get((directory, old.group), {old.path})
    return there == groups.get((directory, new.group), {new.path})
