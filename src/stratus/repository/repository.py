"""A repository to be read: verified from its public key on, whatever store or server the bytes come from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from stratus.catalogs.tree import CatalogTree
from stratus.errors import BadFormat, BadName, NoSuchRepository, NotFound
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.formats.history import TRUNK_PREVIOUS, History, Tag
from stratus.formats.manifest import Manifest
from stratus.formats.trusted import Seen, TrustedMetadata
from stratus.repository.layout import Layout
from stratus.repository.objects import Objects
from stratus.repository.revision import Revision
from stratus.stores.contract import Store

if TYPE_CHECKING:
    from stratus.formats.receipt import Receipt


class Snapshot(msgspec.Struct, frozen=True):
    """A revision by its root catalog, as the mount wants it: sizes in bytes, ttl in seconds."""

    revision: int
    root: Digest
    root_size: int
    ttl: int
    tag: str = ""


class LogEntry(msgspec.Struct, frozen=True):
    """One revision in the log."""

    revision: int
    root: Digest
    time: datetime
    writer: str
    message: str
    change_set: str
    tags: tuple[str, ...]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """A repository in a store; thread-safe.

    Nothing is fetched before it is needed. Every method may raise StoreError and Untrusted.
    """

    def __init__(
        self, store: Store, fqrn: str, public_keys: Sequence[bytes], clock: Callable[[], datetime] = utc_now
    ) -> None:
        """``public_keys`` are PEM; any of them may have signed the whitelist."""
        self.store = store
        self.fqrn = fqrn
        self.layout = Layout(fqrn)
        self.objects = Objects(store, self.layout)
        self.public_keys = tuple(public_keys)
        self._clock = clock
        self._lock = threading.Lock()
        self._manifest: Manifest | None = None

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        base, question, options = self.store.url.partition("?")
        return f"{base.rstrip('/')}/{self.fqrn}{question}{options}"

    # -- the head ----------------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The newest manifest that was seen; the first use fetches it."""
        return self._manifest or self.refresh()

    def refresh(self) -> Manifest:
        """Fetches and verifies the newest manifest. Raises NoSuchRepository; RolledBack if it is older than before."""
        return self._verified(self._public(self.layout.manifest, "manifest"))

    def _verified(self, data: bytes) -> Manifest:
        """The newest manifest, which that of these bytes is from now on, unless a newer one was seen meanwhile."""
        with self._lock:
            known = self._manifest
        seen = None if known is None else Seen(known.revision, known.timestamp)
        trusted = TrustedMetadata(self.fqrn, self.public_keys, self._clock(), seen)
        try:
            manifest = trusted.set_manifest(data)
        except BadFormat as error:
            raise BadFormat(
                f"the manifest of {self.url} is none: {error.message}",
                hint="check the URL; a login page or a proxy may answer in its place",
            ) from error
        certificate = ObjectId(manifest.certificate, Suffix.CERTIFICATE)
        trusted.set_certificate(self._public(self.layout.object(certificate), "certificate"))
        trusted.set_whitelist(self._public(self.layout.whitelist, "whitelist"))
        with self._lock:
            if self._manifest is None or self._manifest.revision <= manifest.revision:
                self._manifest = trusted.manifest
            return self._manifest

    def _public(self, key: str, what: str) -> bytes:
        try:
            return self.store.get(key).data
        except NotFound as error:
            raise NoSuchRepository(
                f"there is no {what} of {self.fqrn} at {self.url}",
                hint="check the name and the URL; `stratus list` shows the repositories that are configured",
            ) from error

    # -- revisions ---------------------------------------------------------------------------------------------------

    def at(self, which: int | str | datetime | None = None) -> Revision:
        """A revision by number, tag or time (the last one not younger); the newest by default.

        Raises BadName if there is none.
        """
        return Revision(self._nested(which), self.objects)

    def _nested(self, which: int | str | datetime | None) -> Nested:
        manifest = self.manifest
        if which is None or which == manifest.revision:
            return Nested(b"", manifest.root, manifest.root_size)
        tag = self._find_tag(which)
        if tag is not None:
            return Nested(b"", tag.root, tag.size)
        if isinstance(which, int):
            for nested, catalog in self._roots():
                if catalog.revision == which:
                    return nested
        if isinstance(which, datetime):
            what = f"revision that is as old as {which.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        else:
            what = f"tag {which}" if isinstance(which, str) else f"revision {which}"
        raise BadName(f"{self.fqrn} has no {what}", hint="see `stratus log` and `stratus tag list` for those there are")

    def _find_tag(self, which: int | str | datetime) -> Tag | None:
        history = self._history()
        if history is None:
            return None
        with history:
            if isinstance(which, str):
                return history.find(which)
            return history.revision(which) if isinstance(which, int) else history.at(which)

    def _roots(self) -> Iterator[tuple[Nested, Catalog]]:
        """Root catalogs from the newest to the oldest that is still there; each is open until the next."""
        nested: Nested | None = Nested(b"", self.manifest.root, self.manifest.root_size)
        while nested is not None:
            try:
                catalog = self.objects.catalog(nested)
            except NotFound:
                return  # collected
            with catalog:
                yield nested, catalog
                nested = None if catalog.previous is None else Nested(b"", catalog.previous, 0)

    def _history(self) -> History | None:
        digest = self.manifest.history
        if digest is None:
            return None
        return History.parse(self.objects.fetch(ObjectId(digest, Suffix.HISTORY)), sound=True)

    def tags(self) -> list[Tag]:
        """All tags, the newest revision first."""
        history = self._history()
        if history is None:
            return []
        with history:
            return history.tags()

    def log(self) -> Iterator[LogEntry]:
        """Revisions from the newest on, as far back as their root catalogs are kept."""
        names: dict[Digest, list[str]] = {}
        for tag in self.tags():
            names.setdefault(tag.root, []).append(tag.name)
        for nested, catalog in self._roots():
            yield LogEntry(
                catalog.revision,
                nested.digest,
                datetime.fromtimestamp(catalog.last_modified, UTC),
                catalog.get_property("stratus.writer") or "",
                catalog.get_property("stratus.message") or "",
                catalog.get_property("stratus.change_set") or "",
                tuple(sorted(name for name in names.get(nested.digest, []) if name != TRUNK_PREVIOUS)),
            )

    def receipt(self, change_set: str) -> Receipt | None:
        """The receipt of a change set, for those who may read the private part; None if there is none."""
        from stratus.formats.receipt import Receipt  # msgspec takes longer to load than a listing takes

        try:
            return Receipt.parse(self.store.get(self.layout.receipt(change_set)).data)
        except NotFound:
            return None

    # -- for mounts --------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Where the objects come from."""
        return self.url

    def snapshot(self, which: int | str | datetime) -> Snapshot:
        """A revision that stays as it is. Raises BadName."""
        nested = self._nested(which)
        tree = CatalogTree(nested, self.objects.catalog)
        try:
            catalog = tree.root.catalog
            tag = which if isinstance(which, str) else ""
            return Snapshot(catalog.revision, nested.digest, nested.size, catalog.ttl, tag)
        finally:
            tree.close()

    def latest(self) -> Snapshot:
        """The newest revision, looked up and verified now."""
        return _snapshot(self.refresh())

    def trust(self, manifest: bytes) -> Snapshot:
        """The revision of a manifest that came by another way, verified like one that was fetched."""
        return _snapshot(self._verified(manifest))

    def fetch(self, object_id: ObjectId, compression: Compression, size: int | None = None) -> bytes:
        """The plain bytes of an object, verified."""
        return self.objects.fetch(object_id, compression, size)


def _snapshot(manifest: Manifest) -> Snapshot:
    return Snapshot(manifest.revision, manifest.root, manifest.root_size, manifest.ttl)
