"""Taking over a repository that the stock tools wrote."""

from __future__ import annotations

from msgspec.structs import replace

from stratus.errors import Changed, NoSuchRepository, UsageError
from stratus.formats import records
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.paths import check_fqrn
from stratus.formats.records import Format, Settings
from stratus.formats.trusted import TrustedMetadata
from stratus.repository.creation import Created, write_private
from stratus.repository.head import log_references, swap
from stratus.repository.layout import Layout
from stratus.repository.listing import list_publicly
from stratus.stores import flows
from stratus.stores.contract import Item, Store
from stratus.stores.flows import Flow
from stratus.stores.policy import allow_reading
from stratus.stores.probe import probe
from stratus.trust.keys import RepositoryKeys


def adopt(
    store: Store, fqrn: str, keys: RepositoryKeys, public_key: bytes | None = None, settings: Settings | None = None
) -> Created:
    """Takes over a repository that the stock tools wrote: private state, and own keys in the place of theirs.

    The tree, its revision and a virtual ``/.cvmfs`` stay as they are. ``public_key`` is the PEM of the master key that
    the repository had: with it, its signatures are verified first. ``settings`` follow what is found, by default.

    Raises NoSuchRepository, UsageError if the repository is one of ours already, Unsuitable, Untrusted.
    """
    layout = Layout(check_fqrn(fqrn))
    if not store.missing([layout.format]):
        raise UsageError(f"{fqrn} in {store.url} has private state already", hint="it can be published to as it is")
    found = _found(store, layout, public_key)
    if settings is None:
        settings = Settings(
            compression="upstream",  # so that objects have the names that the stock tools gave
            hash=found.root.algorithm.value,
            ttl=found.ttl,
            garbage_collectable=found.garbage_collectable,
        )
    capabilities = probe(store, layout.private)
    manifest = flows.run(_sign_anew(layout, keys, found), store)
    flows.run(write_private(layout, Format(records.FORMAT, capabilities.to_json()), settings), store)
    policy = allow_reading(store, fqrn)
    flows.run(list_publicly(fqrn, present=True), store)
    return Created(manifest, policy)


def _found(store: Store, layout: Layout, public_key: bytes | None) -> Manifest:
    """The manifest that is there, verified if it can be."""
    blobs = dict(store.get_many([layout.manifest, layout.whitelist]))
    data, whitelist = blobs[layout.manifest], blobs[layout.whitelist]
    if data is None:
        raise NoSuchRepository(
            f"there is no repository {layout.fqrn} in {store.url}", hint="check the URL and the name"
        )
    if public_key is None:
        return Manifest.parse(data.data)
    trusted = TrustedMetadata(layout.fqrn, [public_key], store.now())
    manifest = trusted.set_manifest(data.data)
    trusted.set_certificate(store.get(layout.object(ObjectId(manifest.certificate, Suffix.CERTIFICATE))).data)
    trusted.set_whitelist(b"" if whitelist is None else whitelist.data)
    return trusted.manifest


def _sign_anew(layout: Layout, keys: RepositoryKeys, found: Manifest) -> Flow[Manifest]:
    """Certificate, reflog, whitelist, then the same manifest under the new certificate."""
    current = yield from flows.get(layout.manifest)
    if Manifest.parse(current.data) != found:
        raise Changed("the repository was published to meanwhile", hint="stop its publishers, then adopt it again")
    algorithm = found.root.algorithm
    now = yield from flows.now()
    certificate, stored = keys.certificate_object(algorithm)
    timestamp = max(int(now.timestamp()), found.timestamp)
    manifest = replace(found, certificate=certificate.digest, timestamp=timestamp)
    whitelist = keys.sign_whitelist(keys.new_whitelist(now, algorithm), algorithm)
    yield from flows.put_many([Item(layout.object(certificate), stored)])
    yield from flows.sync()
    reflog = yield from flows.find(layout.reflog)
    data, version = (None, None) if reflog is None else (reflog.data, reflog.version)
    logged = yield from log_references(layout, manifest, data, version)
    manifest = replace(manifest, reflog=logged.digest)
    yield from flows.put(layout.whitelist, whitelist)
    yield from swap(layout, current.version, keys.sign_manifest(manifest))
    return manifest
