"""The chain of trust, link by link: unlike a reader, who stops at the first that is broken, every one is named."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timedelta

from stratus.errors import BadFormat, BadHash, BadSignature, NoSuchRepository, NotFound
from stratus.formats import certificates, signed
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.whitelist import Whitelist
from stratus.repository.layout import Layout
from stratus.repository.objects import verified
from stratus.stores.contract import Store
from stratus.upkeep.check_problems import Problem

_MANIFEST_MAX = 4096  # bytes, from which on the stock tools refuse a manifest in a file
_FUTURE = timedelta(days=1)  # clocks differ less


def check_chain(
    store: Store, layout: Layout, public_keys: Sequence[bytes], now: datetime
) -> Generator[Problem, None, Manifest | None]:
    """Manifest, certificate and whitelist; gives the manifest, trusted or not, or None if it cannot be parsed.

    Raises NoSuchRepository without a manifest, BadFormat for public keys that are none.
    """
    try:
        data = store.get(layout.manifest).data
    except NotFound as error:
        raise NoSuchRepository(
            f"there is no repository {layout.fqrn} in {store.url}", hint="check the URL and the name"
        ) from error
    if len(data) >= _MANIFEST_MAX:
        yield Problem("bad_manifest", f"the manifest has {len(data)} bytes, stock tools take less than {_MANIFEST_MAX}")
    try:
        manifest = Manifest.parse(data)
    except BadFormat as error:
        yield Problem("bad_manifest", f"the manifest cannot be understood: {error.message}")
        return None
    if manifest.fqrn != layout.fqrn:
        yield Problem("wrong_name", f"the manifest is that of {manifest.fqrn!r}, not of {layout.fqrn!r}")
    if manifest.timestamp > (now + _FUTURE).timestamp():
        yield Problem("manifest_from_future", f"the manifest was made at {manifest.timestamp}", severity="warning")
    pem = yield from _certificate(store, layout, manifest)
    yield from _signature(data, pem)
    yield from _whitelist(store, layout, public_keys, now, pem)
    return manifest


def _certificate(store: Store, layout: Layout, manifest: Manifest) -> Generator[Problem, None, bytes | None]:
    """The PEM; None after a problem."""
    object_id = ObjectId(manifest.certificate, Suffix.CERTIFICATE)
    try:
        pem = certificates.unpack(verified(object_id, store.get(layout.object(object_id)).data))
        certificates.public_key(pem)
    except NotFound:
        yield Problem("missing_object", f"object {object_id}, the certificate, is not in the store")
    except BadHash as error:
        yield Problem("bad_hash", error.message)
    except BadFormat as error:
        yield Problem("bad_certificate", f"object {object_id}: {error.message}")
    else:
        return pem
    return None


def _signature(data: bytes, pem: bytes | None) -> Iterator[Problem]:
    try:
        document = signed.split(data)
        if pem is not None:
            certificates.verify_manifest_signature(document, certificates.public_key(pem))
    except BadFormat as error:
        yield Problem("bad_manifest", f"the manifest is not signed: {error.message}")
    except BadSignature as error:
        yield Problem("bad_signature", error.message)


def _whitelist(
    store: Store, layout: Layout, public_keys: Sequence[bytes], now: datetime, pem: bytes | None
) -> Iterator[Problem]:
    keys = [certificates.load_public_key(public_key) for public_key in public_keys]
    try:
        document = signed.split(store.get(layout.whitelist).data)
        whitelist = Whitelist.parse(document.body)
    except NotFound:
        yield Problem("missing_whitelist", f"there is no {layout.whitelist}")
        return
    except BadFormat as error:
        yield Problem("bad_whitelist", f"the whitelist cannot be understood: {error.message}")
        return
    if whitelist.fqrn != layout.fqrn:
        yield Problem("wrong_name", f"the whitelist is that of {whitelist.fqrn!r}, not of {layout.fqrn!r}")
    if not any(certificates.is_whitelist_signature(document, key) for key in keys):
        yield Problem("bad_signature", "the whitelist is not signed by a key that is trusted")
    if not whitelist.is_valid(now):
        yield Problem("whitelist_expired", f"the whitelist ran out at {whitelist.expires:%Y-%m-%d %H}:00 UTC")
    if pem is not None and not any(certificates.fingerprint(pem, f.algorithm) == f for f in whitelist.fingerprints):
        yield Problem("certificate_not_listed", "the whitelist does not list the certificate that signed the manifest")
