"""Looking at a change set before it is sealed, since the commit trusts it: where its records are, what they name, and
that every object is there and is what its name says.

Where objects were staged they are brought to their places first. What comes to them is only what names say, unless
writers have credentials for the store: so there it is enough that an object is there, else it is read.

All of it can be done piece by piece: what has been looked at is a ``Progress``, small enough to be kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from stratus.catalogs.attached import verify_attached
from stratus.catalogs.tree import CatalogTree
from stratus.errors import BadFormat, BadHash, NotFound, Rejected
from stratus.formats import paths
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Attach, Change, ChangeSet, Put, Remove, Tag, Untag
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.key_record import is_path
from stratus.formats.manifest import Manifest
from stratus.functions.intake import Intake
from stratus.functions.promotion import promote
from stratus.repository.layout import Layout
from stratus.repository.objects import Objects, verified
from stratus.repository.recent import Recent
from stratus.stores.contract import Store
from stratus.stores.parallel import WORKERS, each
from stratus.upkeep.check_catalog import check_catalog
from stratus.upkeep.check_problems import Problem
from stratus.writers.known import KnownObjects

_PIECE = 4 << 20  # bytes that are read of an object at a time
_FEW, _MANY = 16, 1024  # objects between two looks at the clock, which are about
_SECONDS = 1.0  # apart
_NAMED = 10  # objects in a message


class Progress(msgspec.Struct):
    """How far an inspection has come.

    Attributes:
        promoted: how many staged objects were brought to their places, ``promoted_all`` once those were all.
        attached: how many of the catalogs, in the order of the records, were looked at.
        upto: the name of the last object that was, in the order of names; "" before the first.
        done: all of it.
    """

    promoted: int = 0
    promoted_all: bool = False
    attached: int = 0
    upto: str = ""
    done: bool = False


def check_header(change_set: ChangeSet, *, claim: str, repository: str, path: bytes | None, writer: str) -> None:
    """Raises Rejected unless the change set is that of the claim: by id, repository, writer, at or below the path."""
    wrong = None
    if change_set.id != claim:
        wrong = f"is that of the lease {change_set.id}"
    elif change_set.repository != repository:
        wrong = f"is for {change_set.repository}"
    elif change_set.writer != writer:
        wrong = f"says that {change_set.writer!r} made it"
    elif not is_path(change_set.path) or not paths.contains(path or b"", change_set.path):
        wrong = f"is for {paths.display(change_set.path)}"
    if wrong is not None:
        raise Rejected(
            f"the change set {wrong}",
            reason="bad_change_set",
            hint="a change set has the id, repository, path and writer of its lease",
            path=change_set.path,
        )


def check_records(change_set: ChangeSet, leased: bytes | None) -> None:
    """Raises Rejected unless every record is where the lease is, and all objects that it names are listed.

    ``leased`` is the path of the lease, None for one that leaves the tree alone. Tags of other revisions than the one
    that is made belong to no path: they take a lease of the root, or one that leaves the tree alone.
    """
    listed = frozenset(change_set.objects)
    try:
        for change in change_set.changes:
            _check_record(change, change_set.path, leased, listed)
    except BadFormat as error:
        raise Rejected(error.message, reason="bad_change_set", hint="publish again") from error


def _check_record(change: Change, top: bytes, leased: bytes | None, listed: frozenset[ObjectId]) -> None:
    if isinstance(change, Tag | Untag):
        if leased:
            raise Rejected(
                f"the tag {change.name} cannot be changed under a lease of {paths.display(leased)}",
                reason="outside_of_lease",
                hint="tags take a lease of the whole repository, or one without a path",
            )
        return
    path = change.path if isinstance(change, Remove) else change.entry.path
    if leased is None or not paths.contains(top, path):
        where = "what was leased, which is no path" if leased is None else paths.display(top)
        raise Rejected(f"{paths.display(path)} is outside of {where}", reason="outside_of_lease", path=path)
    if not is_path(path) or any(len(part) > paths.NAME_MAX for part in paths.components(path)):
        raise Rejected(f"{paths.display(path)!r} is no path", reason="bad_path", path=path)
    for one in _named(change):
        if one not in listed:
            raise _unlisted(one, path)


def _named(change: Change) -> Iterator[ObjectId]:
    """The objects that a record names."""
    if isinstance(change, Attach):
        yield ObjectId(change.catalog, Suffix.CATALOG)
    elif isinstance(change, Put) and change.entry.content is not None:
        yield from change.entry.content.objects()


def _unlisted(one: ObjectId, path: bytes) -> Rejected:
    return Rejected(
        f"{paths.display(path)} names the object {one}, which the change set does not list",
        reason="bad_change_set",
        hint="publish again, with the newest version of stratus",
        path=path,
    )


def inspect(
    change_set: ChangeSet,
    store: Store,
    layout: Layout,
    base: Manifest,
    recent: Recent,
    intake: Intake,
    progress: Progress,
    largest: int,
    enough: Callable[[], bool],
) -> Progress:
    """Goes on looking at attached catalogs and at objects until all is done, or it is ``enough``.

    Objects that catalogs of the newest revision (``base``) name are there and sound. ``base`` was read after the epoch
    of the claim was. ``largest`` is the size in bytes of the largest catalog that fits in memory. Raises Rejected.
    """
    attaches, touched = _touched(change_set.changes)
    listed = frozenset(change_set.objects)
    progress = msgspec.structs.replace(progress)
    if intake is Intake.STAGED and not progress.promoted_all:
        moved, progress.promoted_all = promote(change_set.id, listed, store, layout, largest, enough)
        progress.promoted += moved
        if not progress.promoted_all:
            return progress
    for attach in attaches[progress.attached :]:
        _look_inside(attach, store, layout, listed, largest)
        progress.attached += 1
        if enough():
            return progress
    reader = Objects(store, layout, recent)
    tree = CatalogTree(Nested(b"", base.root, base.root_size), reader.catalog)
    try:
        known = KnownObjects(tree, reader)
        for path in touched:
            known.visit(path)
        waiting = iter(sorted(_left(listed, progress.upto, known), key=str))
        count = _FEW
        while some := list(islice(waiting, count)):
            begun = time.monotonic()
            _verify(some, store, layout, intake)
            count = max(count // 2, _FEW) if time.monotonic() - begun > _SECONDS else min(count * 2, _MANY)
            progress.upto = str(some[-1])
            if enough():
                return progress
        progress.done = True
        return progress
    finally:
        tree.close()


def _touched(changes: Iterable[Change]) -> tuple[list[Attach], list[bytes]]:
    """What is attached, and one path of each directory in which something is put."""
    attaches: list[Attach] = []
    paths_by_directory: dict[bytes, bytes] = {}
    for change in changes:
        if isinstance(change, Attach):
            attaches.append(change)
        elif isinstance(change, Put):
            paths_by_directory.setdefault(paths.parent(change.entry.path), change.entry.path)
    return attaches, list(paths_by_directory.values())


def _left(listed: Iterable[ObjectId], upto: str, known: KnownObjects) -> Iterator[ObjectId]:
    return (one for one in listed if str(one) > upto and one not in known)


def _look_inside(attach: Attach, store: Store, layout: Layout, listed: frozenset[ObjectId], largest: int) -> None:
    def load(nested: Nested) -> bytes:
        object_id = ObjectId(nested.digest, Suffix.CATALOG)
        if object_id not in listed:
            raise _unlisted(object_id, nested.path)
        if not 0 < nested.size <= largest:
            raise Rejected(
                f"the catalog of {paths.display(nested.path)} has {nested.size} bytes, {largest} can be looked at",
                reason="bad_attach",
                hint="publish it in smaller catalogs, or give the function more memory",
                path=nested.path,
            )
        stored = verified(object_id, store.get(layout.object(object_id)).data)
        data = Compression.ZLIB.unpack(stored, nested.size)
        _check(data, nested.path)
        with Catalog.parse(data) as catalog:
            for one in catalog.objects():
                if one not in listed:
                    raise _unlisted(one, nested.path)
        return data

    try:
        verify_attached(attach, load)
    except (NotFound, BadHash) as error:
        raise Rejected(
            f"the catalog of {paths.display(attach.entry.path)}, or one below, is missing or damaged: {error.message}",
            reason="objects_missing",
            hint="publish again: what is missing is uploaded",
            path=attach.entry.path,
        ) from error
    except BadFormat as error:
        raise Rejected(error.message, reason="bad_attach", hint="build it again", path=attach.entry.path) from error


def _check(data: bytes, path: bytes) -> None:
    """Raises Rejected for what the check of a repository would find in a catalog by itself."""
    with contextlib.closing(check_catalog(data, path)) as found:
        for problem in found:
            if isinstance(problem, Problem):
                raise Rejected(
                    f"a catalog that is attached is faulty: {problem.message}",
                    reason="bad_attach",
                    hint="build it again; attached to a repository of one's own, `stratus check` names all faults",
                    path=problem.path,
                )


def _verify(some: Iterable[ObjectId], store: Store, layout: Layout, intake: Intake) -> None:
    """Raises Rejected unless all these objects are there, with the bytes that their names say."""

    def look(one: ObjectId) -> tuple[ObjectId, str]:
        return one, _trouble(one, store, layout)

    if intake is Intake.THROUGH:
        troubles = {one: trouble for one, trouble in each(look, some, WORKERS) if trouble}
    else:
        keys = {layout.object(one): one for one in some}
        troubles = {keys[key]: "objects_missing" for key in store.missing(keys)}
    for reason, what in (("objects_damaged", "are not what their names say"), ("objects_missing", "are not there")):
        found = sorted(str(one) for one, trouble in troubles.items() if trouble == reason)
        if found:
            raise Rejected(
                f"{len(found)} objects {what}: {', '.join(found[:_NAMED])}",
                reason=reason,
                hint="upload them again, and submit again",
            )


def _trouble(one: ObjectId, store: Store, layout: Layout) -> str:
    key = layout.object(one)
    hasher = one.digest.algorithm.new()
    start, version = 0, None
    while True:
        try:
            piece = store.get(key, (start, start + _PIECE))
        except NotFound:
            return "objects_missing"
        if not piece.data:
            break
        if version not in (None, piece.version):
            return "objects_damaged"  # it is being replaced
        version = piece.version
        hasher.update(piece.data)
        start += len(piece.data)
        if len(piece.data) < _PIECE:
            break
    return "" if hasher.digest() == one.digest.raw else "objects_damaged"
