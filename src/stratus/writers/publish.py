"""Publishing: drives sources through a writer and makes the change set of what is different.

What is in the sources lands at a path and is merged into what is there; with ``replace`` the path becomes equal to the
sources. Entries that are in the tree already, just so, are left out of the change set.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from stratus.catalogs.structure import MARKER
from stratus.errors import StratusError, UsageError
from stratus.formats import dirtab
from stratus.formats.changes import Change, ChangeSet, Remove, Tag, Untag, Usage
from stratus.formats.entries import Kind
from stratus.formats.receipt import Receipt
from stratus.ingest.contract import Body, Draft, Placement, Progress, Source, Warn
from stratus.ingest.crew import Processes
from stratus.ingest.pipeline import Pipeline
from stratus.writers.attaching import NewCatalogs
from stratus.writers.comparing import Comparison
from stratus.writers.contract import Forecast, Lease, Upload, Uploaded, Writer
from stratus.writers.gathered import Gathered
from stratus.writers.recorded import Changes, Objects


class Options(msgspec.Struct, frozen=True):
    """How to publish.

    Attributes:
        replace: make the path equal to the sources, instead of merging.
        catalog: make the path a nested catalog.
        owner: user and group id of all entries, None keeps the sources'.
        strip_components: leading components that names lose.
        xattrs: publish extended attributes too.
        workers: processes that pack and upload: how many, or those that were started ahead; 0 does it in this one,
            None takes one per processor.
        progress: is told how far it is.
        wait: seconds to wait for somebody else's lease.
    """

    replace: bool = False
    catalog: bool = False
    owner: tuple[int, int] | None = None
    strip_components: int = 0
    xattrs: bool = False
    message: str = ""
    tag: str | None = None
    workers: int | Processes | None = None
    progress: Progress | None = None
    wait: float = 0


def publish(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Receipt:
    """Publishes the sources, the later ones over the earlier ones.

    Raises BadSource, Rejected, Busy, StoreError; nothing is published then.
    """
    with writer.lease(path, options.wait) as lease:
        return _submit(writer, _change_set(writer, lease, fqrn, path, sources, who, options, writer.upload(lease)))


def forecast(
    writer: Writer, fqrn: str, path: bytes, sources: Sequence[Source], who: str, options: Options = Options()
) -> Forecast:
    """What ``publish`` would do; nothing is stored. Raises what it raises."""
    with writer.look(path) as lease:
        upload = writer.appraise(lease)
        return writer.forecast(_change_set(writer, lease, fqrn, path, sources, who, options, upload))


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
    policy = writer.policy(lease)
    placement = Placement(path, options.owner, options.strip_components, options.xattrs)
    drafts = _drafts(sources, placement, warnings.append)
    if options.catalog:
        drafts = _with_marker(drafts, path, options.owner)
    with contextlib.closing(Objects(policy.algorithm)) as objects, contextlib.closing(Gathered(policy)) as gathered:
        finished = gathered.finished
        _pack(drafts, gathered, Pipeline(policy, upload, warnings.append, options.workers, options.progress, finished))
        has_own_rules = gathered.has(dirtab.PATH) or (not path and options.replace)
        catalogs = NewCatalogs(base, gathered, policy, upload, objects, warnings.append, has_own_rules)
        comparison = Comparison(base, gathered, path, options.replace, catalogs)
        changes = Changes(objects.noting(comparison.records(gathered.rows())))
        names = objects.names()
    return ChangeSet(
        id=lease.id,
        repository=fqrn,
        path=path,
        changes=changes,
        objects=names,
        base=lease.base,
        writer=who,
        message=options.message,
        tag=options.tag,
        usage=_usage(upload.uploaded, time.monotonic() - begun),
        warnings=tuple(warnings),
    )


def remove(
    writer: Writer, fqrn: str, path: bytes, who: str, recursive: bool, message: str = "", wait: float = 0
) -> Receipt:
    """Removes what is at ``path``. Raises Rejected."""
    with writer.lease(path, wait) as lease:
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


def _pack(drafts: Iterable[Draft], gathered: Gathered, pipeline: Pipeline) -> None:
    """Gathers the drafts and packs their contents; hard links share what is packed."""
    with pipeline:
        for draft in drafts:
            if gathered.add(draft):
                assert draft.body is not None
                pipeline.add(draft.path, draft.body)
        pipeline.finish()


def _usage(uploaded: Uploaded, seconds: float) -> Usage:
    return Usage(
        seconds,
        uploaded.new,
        uploaded.present,
        uploaded.plain_bytes,
        uploaded.stored_bytes,
        uploaded.uploaded_bytes,
    )
