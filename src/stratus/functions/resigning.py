"""What has to be signed again though nothing was published: a manifest whose reflog hash is behind, a whitelist that
runs out."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from stratus.commit import locking
from stratus.errors import BadFormat, Changed, NotPermitted, UsageError
from stratus.formats import signed
from stratus.formats.manifest import Manifest
from stratus.formats.reflog import RefKind, Reflog
from stratus.formats.whitelist import Whitelist
from stratus.functions.commit import verifier
from stratus.functions.contract import Context
from stratus.repository.head import Pointer, read_pointer, swap
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent, StoredReflog
from stratus.stores import flows
from stratus.stores.contract import Blob, Stat
from stratus.stores.flows import Flow
from stratus.trust.keys import WHITELIST_DAYS, RepositoryKeys

_AHEAD = timedelta(days=10)  # before the whitelist runs out


def sign_right_reflog(layout: Layout, context: Context) -> Flow[bool]:
    """Signs the manifest with the hash of the reflog, if it has another one and nobody commits; whether it did.

    That happens if a commit died between the two. Everything else of the manifest stays. Raises BadFormat for a reflog
    that lacks what the manifest names: it is damaged, not newer.
    """
    keys = context.secrets.repository_keys(layout.fqrn)
    recent = context.recent(layout.fqrn)
    pointer, listed = yield from flows.both(read_pointer(layout, verifier(keys)), flows.list_keys(layout.reflog))
    manifest = pointer.manifest
    if manifest.reflog is None or _is_known(recent, manifest, layout, listed):
        return False
    blob = yield from _read_twice(layout, manifest, recent)
    if blob is None:
        return False
    seen = yield from locking.look(layout)
    if not seen.is_free((yield from flows.now()), context.is_gone):
        return False
    _check(blob.data, manifest)
    right = replace(manifest, reflog=manifest.root.algorithm.digest(blob.data))
    try:
        yield from swap(layout, pointer.version, keys.sign_manifest(right))
    except Changed:
        return False  # somebody published, who did it, too
    return True


def _is_known(recent: Recent, manifest: Manifest, layout: Layout, listed: list[Stat]) -> bool:
    """Whether the reflog in the store is the one that this process knows to be right."""
    known = recent.reflog
    found = next((stat.version for stat in listed if stat.key == layout.reflog), None)
    return known is not None and known.digest == manifest.reflog and known.version == found


def _read_twice(layout: Layout, manifest: Manifest, recent: Recent) -> Flow[Blob | None]:
    """A reflog that the manifest does not name; read twice the same, so it was not damaged on the way."""
    before: Blob | None = None
    while True:
        blob = yield from flows.find(layout.reflog)
        if blob is None:
            raise BadFormat("there is no reflog, but the manifest names its hash", hint="restore it from a copy")
        digest = manifest.root.algorithm.digest(blob.data)
        if digest == manifest.reflog:
            recent.reflog = StoredReflog(digest, blob.data, blob.version)
            return None
        if before is not None:
            return blob if blob == before else None  # somebody is at it: next time
        before = blob


def _check(data: bytes, manifest: Manifest) -> None:
    with Reflog.parse(data) as reflog:
        held = {(ref.kind, ref.digest) for ref in reflog.refs()}
        named = reflog.fqrn
    wanted = {
        (RefKind.CATALOG, manifest.root),
        (RefKind.CERTIFICATE, manifest.certificate),
        (RefKind.HISTORY, manifest.history),
        (RefKind.META_INFO, manifest.meta_info),
    }
    lacks = [digest for kind, digest in wanted if digest is not None and (kind, digest) not in held]
    if named != manifest.fqrn or lacks:
        raise BadFormat(
            f"the reflog is damaged: it is that of {named}, and lacks {len(lacks)} of what the manifest names",
            hint="`stratus check` says what is wrong with it",
        )


def renew_whitelist(layout: Layout, context: Context) -> Flow[tuple[bool, str]]:
    """Renews the whitelist if it is about to run out; whether it did, and what the owner has to do if it could not."""
    blob, now = yield from flows.both(flows.find(layout.whitelist), flows.now())
    if blob is None:
        return False, "there is no whitelist: `stratus resign` makes one"
    whitelist = Whitelist.parse(signed.split(blob.data).body)
    if whitelist.expires - now > _AHEAD:
        return False, ""
    until = f"the whitelist runs out at {whitelist.expires:%Y-%m-%d %H}:00 UTC"
    try:
        keys = context.secrets.repository_keys(layout.fqrn)
    except (NotPermitted, UsageError) as error:
        return False, f"{until}: {error}"
    if not keys.has_master:
        return False, f"{until}, and the master key is not here: renew it with `stratus resign`"
    pointer = yield from read_pointer(layout, verifier(keys))
    return (yield from _renew(layout, keys, pointer, whitelist, until))


def _renew(
    layout: Layout, keys: RepositoryKeys, pointer: Pointer, old: Whitelist, until: str
) -> Flow[tuple[bool, str]]:
    algorithm = pointer.manifest.root.algorithm
    new = keys.new_whitelist((yield from flows.now()), algorithm, WHITELIST_DAYS)
    if not set(old.fingerprints) <= set(new.fingerprints):
        return False, f"{until}, and lists other certificates, too: renew it with `stratus resign`"
    yield from flows.put(layout.whitelist, keys.sign_whitelist(new, algorithm))
    return True, ""
