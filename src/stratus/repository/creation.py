"""Creating an empty repository."""

from __future__ import annotations

import os

import msgspec
from msgspec.structs import replace

from stratus.catalogs.workbench import StoredCatalog, store_catalog
from stratus.errors import Exists, UsageError
from stratus.formats import records
from stratus.formats.catalog import Catalog
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry, Kind, Row
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.history import TRUNK, History, Tag
from stratus.formats.manifest import Manifest
from stratus.formats.paths import check_fqrn
from stratus.formats.records import Collection, Format, Lock, Settings
from stratus.repository.head import log_references, packed_history, swap
from stratus.repository.layout import Layout
from stratus.repository.listing import list_publicly
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Item, Store
from stratus.stores.flows import Flow
from stratus.stores.policy import allow_reading
from stratus.stores.probe import probe
from stratus.trust.keys import RepositoryKeys

_FIRST_REVISION = 1
_MASTER_REPLICA = b"This file marks the repository as replicable.\n"


class Created(msgspec.Struct, frozen=True):
    """A repository that was created or taken over.

    Attributes:
        manifest: of its newest revision.
        policy: what an administrator has to set as the bucket's policy before everybody can read, if we may not.
    """

    manifest: Manifest
    policy: str | None


def create(store: Store, fqrn: str, keys: RepositoryKeys, settings: Settings) -> Created:
    """An empty repository. The manifest comes last: a creation that was interrupted can be repeated.

    Raises UsageError if there is one of that name already, Unsuitable if the store lacks what repositories need.
    """
    layout = Layout(check_fqrn(fqrn))
    _refuse_existing(store, layout.manifest, fqrn)
    capabilities = probe(store, layout.private)
    flows.run(write_private(layout, Format(records.FORMAT, capabilities.to_json()), settings), store)
    try:
        manifest = flows.run(_write_public(layout, keys, settings), store)
    except Exists:
        _refuse_existing(store, layout.manifest, fqrn)
        raise
    policy = allow_reading(store, fqrn)
    flows.run(list_publicly(fqrn, present=True), store)
    return Created(manifest, policy)


def _refuse_existing(store: Store, key: str, fqrn: str) -> None:
    if not store.missing([key]):
        raise UsageError(
            f"there is a repository {fqrn} in {store.url} already",
            hint="choose another name or store; `stratus destroy` removes a repository",
        )


def write_private(layout: Layout, form: Format, settings: Settings) -> Flow[None]:
    flow = flows.together(
        [
            flows.put(layout.format, records.pack(form)),
            flows.put(layout.settings, records.pack(settings)),
            _put_once(layout.lock, records.pack(Lock())),
            _put_once(layout.collection, records.pack(Collection())),
        ]
    )
    yield from flow


def _put_once(key: str, data: bytes) -> Flow[None]:
    try:
        yield from flows.put(key, data, ABSENT)
    except Exists:
        return


def _write_public(layout: Layout, keys: RepositoryKeys, settings: Settings) -> Flow[Manifest]:
    algorithm = settings.algorithm
    now = yield from flows.now()
    timestamp = int(now.timestamp())
    root = _empty_root(algorithm, timestamp, settings.ttl)
    certificate, certificate_stored = keys.certificate_object(algorithm)
    head = Tag(TRUNK, root.id.digest, _FIRST_REVISION, timestamp, root.size, "current HEAD")
    with History.create(layout.fqrn) as history:
        history.advance(head)
        history_id, history_stored = packed_history(history, algorithm, None)
    empty = Compression.ZLIB.pack(b"")
    manifest = Manifest(
        root=root.id.digest,
        root_size=root.size,
        ttl=settings.ttl,
        revision=_FIRST_REVISION,
        fqrn=layout.fqrn,
        certificate=certificate.digest,
        timestamp=timestamp,
        history=history_id.digest,
        garbage_collectable=settings.garbage_collectable,
    )
    items = [
        Item(layout.object(root.id), root.stored),
        Item(layout.object(certificate), certificate_stored),
        Item(layout.object(history_id), history_stored),
        Item(layout.object(ObjectId(algorithm.digest(empty))), empty),
    ]
    whitelist = keys.sign_whitelist(keys.new_whitelist(now, algorithm), algorithm)
    yield from flows.together(
        [
            flows.put_many(items),
            flows.put(layout.whitelist, whitelist),
            flows.put(layout.master_replica, _MASTER_REPLICA),
        ]
    )
    yield from flows.sync()
    leftover = yield from flows.find(layout.reflog)  # of a creation that was interrupted: replaced
    reflog = yield from log_references(layout, manifest, None, None if leftover is None else leftover.version)
    manifest = replace(manifest, reflog=reflog.digest)
    yield from swap(layout, None, keys.sign_manifest(manifest))
    return manifest


def _empty_root(algorithm: Algorithm, timestamp: int, ttl: int) -> StoredCatalog:
    top = Entry(b"", Kind.DIRECTORY, 0o755, os.getuid(), os.getgid(), 4096, timestamp * 1_000_000_000)
    with Catalog.create(Row(top, links=2)) as catalog:
        catalog.set_property("revision", _FIRST_REVISION)
        catalog.set_property("last_modified", timestamp)
        catalog.set_property("TTL", ttl)
        return store_catalog(b"", catalog, algorithm)
