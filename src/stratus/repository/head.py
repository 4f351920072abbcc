"""The head: the newest revision as writers see it, and its replacement by compare-and-swap.

The order is what makes a revision whole: all objects and catalogs are stored first, then the reflog, then the manifest.
A crash at any point leaves the revision before untouched; at worst the manifest's reflog hash is behind the reflog,
which the next revision repairs.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stratus.errors import BadFormat, Changed, Exists, NoSuchRepository, NotFound, Unknown
from stratus.formats.catalog import Nested
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.history import History
from stratus.formats.manifest import Manifest
from stratus.formats.reflog import RefKind, Reflog
from stratus.repository import fetching
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent, StoredReflog
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Blob, Match, Version
from stratus.stores.flows import Flow

_REFLOG_ATTEMPTS = 8

Verify = Callable[[bytes], Manifest]
"""Checks the signature of a manifest's bytes. Raises Untrusted."""
Sign = Callable[[Manifest], bytes]
"""Gives the signed bytes of a manifest."""


class Head(msgspec.Struct, frozen=True):
    """The newest revision and what its replacement needs.

    Attributes:
        version: of the manifest, that is to be replaced.
        root: the plain bytes of the root catalog.
        history: the plain bytes of the history; None if the repository has none.
        reflog: as it was found, with its version; None if there was none.
        reflog_sound: its bytes are those that the manifest names.
    """

    manifest: Manifest
    version: Version
    root: bytes
    history: bytes | None
    reflog: bytes | None
    reflog_version: Version | None
    reflog_sound: bool = False


class Pointer(msgspec.Struct, frozen=True):
    """The newest manifest, with its version."""

    manifest: Manifest
    version: Version

    @property
    def at(self) -> Nested:
        """The reference to the root catalog."""
        return Nested(b"", self.manifest.root, self.manifest.root_size)


def read_pointer(layout: Layout, verify: Verify) -> Flow[Pointer]:
    """Reads the manifest. Raises NoSuchRepository."""
    try:
        blob = yield from flows.get(layout.manifest)
    except NotFound as error:
        raise NoSuchRepository(
            f"there is no repository {layout.fqrn} in this store",
            hint="`stratus create` makes one; check the name and the store's URL",
        ) from error
    return Pointer(verify(blob.data), blob.version)


def read_head(layout: Layout, verify: Verify, recent: Recent | None = None) -> Flow[Head]:
    """Reads the head: the manifest first, then what it names in parallel. Raises NoSuchRepository.

    What ``recent`` has is not fetched.
    """
    pointer = yield from read_pointer(layout, verify)
    return (yield from read_named(layout, pointer, Recent() if recent is None else recent))


def read_named(layout: Layout, pointer: Pointer, recent: Recent, root: bytes | None = None) -> Flow[Head]:
    """Reads what a manifest names; ``root`` are the plain bytes of the root catalog, if they are at hand."""
    manifest = pointer.manifest
    others = flows.both(_history(layout, manifest, recent), _reflog(layout, manifest, recent))
    if root is None:
        root_id = ObjectId(manifest.root, Suffix.CATALOG)
        root_flow = fetching.get_recent(layout, root_id, recent, manifest.root_size or None)
        root, (history, (reflog, sound)) = yield from flows.both(root_flow, others)
    else:
        history, (reflog, sound) = yield from others
    return Head(
        manifest,
        pointer.version,
        root,
        history,
        None if reflog is None else reflog.data,
        None if reflog is None else reflog.version,
        sound,
    )


def _history(layout: Layout, manifest: Manifest, recent: Recent) -> Flow[bytes | None]:
    if manifest.history is None:
        return None
    return (yield from fetching.get_recent(layout, ObjectId(manifest.history, Suffix.HISTORY), recent))


def _reflog(layout: Layout, manifest: Manifest, recent: Recent) -> Flow[tuple[Blob | StoredReflog | None, bool]]:
    """The reflog, and whether the manifest names it.

    One that it does not name, as after a crash, counts once it is read twice the same: nothing else tells it from one
    that was damaged on the way, and it is about to be written back.
    """
    if recent.reflog is not None and recent.reflog.digest == manifest.reflog:
        return recent.reflog, True
    before = None
    for _ in range(_REFLOG_ATTEMPTS):
        found = yield from flows.find(layout.reflog)
        if found is not None and manifest.reflog is not None:
            digest = manifest.reflog.algorithm.digest(found.data)
            if digest == manifest.reflog:
                recent.reflog = StoredReflog(digest, found.data, found.version)
                return recent.reflog, True
        if found is None or manifest.reflog is None or found == before:
            return found, False
        before = found
    raise Changed("the reflog is another one each time that it is read", hint="try again in a moment")


def packed_history(history: History, algorithm: Algorithm, previous: Digest | None) -> tuple[ObjectId, bytes]:
    """The object of a history whose predecessor is ``previous``."""
    stored = Compression.ZLIB.pack(history.pack(previous))
    return ObjectId(algorithm.digest(stored), Suffix.HISTORY), stored


def log_references(
    layout: Layout, manifest: Manifest, reflog: bytes | None, version: Version | None, sound: bool = False
) -> Flow[StoredReflog]:
    """Adds what the manifest names to the reflog that was read with this version, and stores it; gives what is stored.

    If others wrote it meanwhile, theirs is read and added to. One that is ``sound`` need not be checked.
    """
    for _ in range(_REFLOG_ATTEMPTS):
        packed = _with_references(reflog, manifest, sound)
        try:
            stored = yield from flows.put(layout.reflog, packed, ABSENT if version is None else Match(version))
        except (Changed, Exists, Unknown):
            found = yield from flows.find(layout.reflog)
            if found is None or found.data != packed:
                reflog, version = (None, None) if found is None else (found.data, found.version)
                sound = False
                continue
            stored = found.version
        return StoredReflog(manifest.root.algorithm.digest(packed), packed, stored)
    raise Changed("the reflog is rewritten by others all the time", hint="try again in a moment")


def _with_references(data: bytes | None, manifest: Manifest, sound: bool) -> bytes:
    with Reflog.create(manifest.fqrn) if data is None else Reflog.parse(data, sound) as reflog:
        if reflog.fqrn != manifest.fqrn:
            raise BadFormat(f"the reflog is that of {reflog.fqrn}", hint="restore the repository's own .cvmfsreflog")
        reflog.add(RefKind.CATALOG, manifest.root, manifest.timestamp)
        reflog.add(RefKind.CERTIFICATE, manifest.certificate, manifest.timestamp)
        if manifest.history is not None:
            reflog.add(RefKind.HISTORY, manifest.history, manifest.timestamp)
        if manifest.meta_info is not None:
            reflog.add(RefKind.META_INFO, manifest.meta_info, manifest.timestamp)
        return reflog.pack()


def swap(layout: Layout, version: Version | None, signed: bytes) -> Flow[Version]:
    """Replaces the manifest of this version (None: puts the first one); gives the new one's version.

    Raises Changed if somebody was faster. An answer that was lost is settled by looking: the own bytes there mean that
    it landed. Not there settles nothing, so that counts as Changed: whoever begins again finds the own outcome if it
    lands later.
    """
    when = ABSENT if version is None else Match(version)
    prepared = yield from flows.prepare_put(layout.manifest, signed, when)
    try:
        return (yield from flows.send(prepared))
    except Unknown as error:
        found = yield from flows.find(layout.manifest)
        if found is None or found.data != signed:
            raise Changed("the manifest may have been replaced, but not by these bytes") from error
        return found.version
