"""Checking a whole repository: from its URL and public key alone, everything that can be read is verified.

Problems come one after another, and a check goes on behind each as far as it can: what cannot be read is named, and
so is what lies beside it. Catalogs are loaded one at a time. Source of the rules: ``cvmfs/swissknife_check.cc``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from stratus.errors import BadFormat, BadName, NotFound, Untrusted
from stratus.formats import counters
from stratus.formats.catalog import DEFAULT_TTL, Nested
from stratus.formats.counters import Counters
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.history import Tag
from stratus.formats.manifest import Manifest
from stratus.formats.meta_info import MetaInfo
from stratus.formats.paths import check_fqrn
from stratus.repository.layout import Layout
from stratus.repository.objects import Objects
from stratus.stores.contract import Store
from stratus.upkeep.check_catalog import Examined, check_catalog
from stratus.upkeep.check_chain import check_chain
from stratus.upkeep.check_history import check_history, check_reflog
from stratus.upkeep.check_objects import check_objects, fetch
from stratus.upkeep.check_problems import LookedAt, Problem, Wanted
from stratus.upkeep.check_row import RawRow, about

_LONGEST_WAY = 1000  # predecessors that are followed to find an untagged revision


def check(
    store: Store,
    fqrn: str,
    public_keys: Sequence[bytes],
    *,
    now: datetime,
    data: bool = False,
    which: int | str | None = None,
    looked_at: LookedAt | None = None,
) -> Iterator[Problem]:
    """Everything that is wrong with a repository; nothing if it is sound.

    Args:
        public_keys: PEM of master keys, any of which may have signed the whitelist.
        now: aware; what the whitelist's expiry is compared with.
        data: also read every object, instead of asking whether it is there.
        which: the revision or tag whose tree is checked; by default the newest revision's.
        looked_at: counts what was looked at, while it goes on.

    Raises NoSuchRepository, BadName if there is no such revision or tag, BadFormat for public keys that are none,
    StoreError if the store fails.
    """
    layout = Layout(check_fqrn(fqrn))
    counts = LookedAt() if looked_at is None else looked_at
    found = _Check(store, layout, counts).run(public_keys, now, which)
    return check_objects(store, layout, found, data, counts)


@dataclass(frozen=True, slots=True)
class _Top:
    """The root catalog that is checked, and its revision."""

    root: Nested
    revision: int


@dataclass(frozen=True, slots=True)
class _Tree:
    """A catalog, and the counters of it with all below; None where something below cannot be read."""

    catalog: Examined
    total: Counters | None


@dataclass(frozen=True, slots=True)
class _Check:
    store: Store
    layout: Layout
    looked_at: LookedAt

    def run(
        self, public_keys: Sequence[bytes], now: datetime, which: int | str | None
    ) -> Generator[Problem | Wanted, None, None]:
        manifest = yield from check_chain(self.store, self.layout, public_keys, now)
        if manifest is None:
            return
        tags = yield from check_history(self.store, self.layout, manifest, self.looked_at)
        yield from check_reflog(self.store, self.layout, manifest)
        yield from self._meta_info(manifest)
        is_head = which is None or which == manifest.revision
        top = _Top(Nested(b"", manifest.root, manifest.root_size), manifest.revision)
        if which is not None and not is_head:
            top = self._find(which, manifest, tags)
        examined = yield from self._tree(top.root, None)
        if examined is None:
            return
        revision = examined.catalog.number("revision")
        if revision != top.revision:
            what = f"the root catalog {top.root.digest} is of revision {revision}, not {top.revision}"
            yield Problem("wrong_revision", what, b"")
        if is_head:
            yield from self._against_root(manifest, examined.catalog)

    def _meta_info(self, manifest: Manifest) -> Iterator[Problem]:
        if manifest.meta_info is None:
            return
        object_id = ObjectId(manifest.meta_info, Suffix.META_INFO)
        plain = yield from fetch(self.store, self.layout, object_id, self.looked_at)
        if plain is not None:
            try:
                MetaInfo.parse(plain)
            except BadFormat as error:
                yield Problem("bad_meta_info", f"object {object_id}: {error.message}")

    def _against_root(self, manifest: Manifest, root: Examined) -> Iterator[Problem]:
        made = root.number("last_modified")
        if manifest.timestamp < made:
            what = f"the manifest was made at {manifest.timestamp}, before its root catalog at {made}"
            yield Problem("manifest_older_than_root", what, b"", "warning")
        ttl = root.number("TTL", DEFAULT_TTL)
        if manifest.ttl != ttl:
            what = f"the manifest says a TTL of {manifest.ttl} s, clients go by the root catalog's {ttl} s"
            yield Problem("ttl_mismatch", what, b"", "warning")

    def _find(self, which: int | str, manifest: Manifest, tags: Sequence[Tag]) -> _Top:
        """Raises BadName. A revision without a tag is looked for among the predecessors of the newest one."""
        for tag in tags:
            if which == (tag.name if isinstance(which, str) else tag.revision):
                return _Top(Nested(b"", tag.root, tag.size), tag.revision)
        if isinstance(which, int):
            at: Nested | None = Nested(b"", manifest.root, manifest.root_size)
            objects = Objects(self.store, self.layout)
            for _ in range(_LONGEST_WAY):
                if at is None:
                    break
                try:
                    catalog = objects.catalog(at)
                except (NotFound, Untrusted):
                    break  # collected, or broken
                with catalog:
                    if catalog.revision == which:
                        return _Top(at, which)
                    at = None if catalog.previous is None else Nested(b"", catalog.previous, 0)
        what = f"tag {which}" if isinstance(which, str) else f"revision {which}"
        raise BadName(f"{self.layout.fqrn} has no {what}", hint="see `stratus log` and `stratus tag list`")

    # -- catalogs ----------------------------------------------------------------------------------------------------

    def _tree(self, at: Nested, mountpoint: RawRow | None) -> Generator[Problem | Wanted, None, _Tree | None]:
        """A catalog and all below it. Gives None if it cannot be read."""
        object_id = ObjectId(at.digest, Suffix.CATALOG)
        plain = yield from fetch(self.store, self.layout, object_id, self.looked_at, at.path)
        if plain is None:
            return None
        if at.size and len(plain) != at.size:
            yield about("wrong_size", at.path, f"the catalog {object_id} has {len(plain)} bytes, not {at.size}")
        examined = yield from check_catalog(plain, at.path, mountpoint)
        del plain
        if examined is None:
            return None
        self.looked_at.catalogs += 1
        self.looked_at.rows += examined.rows
        below: Counters | None = counters.zero() if examined.all_nested else None
        for nested in examined.nested:
            child = yield from self._tree(nested, examined.mountpoints.get(nested.path))
            if child is None or child.total is None:
                below = None
            elif below is not None:
                counters.add(below, child.total)
        for name, claimed in examined.below.items():
            if below is not None and claimed != below[name]:
                yield about("wrong_counter", at.path, f"subtree_{name} is {claimed}, below are {below[name]}")
        whole = None if examined.own is None or below is None else counters.total(examined.own, below)
        return _Tree(examined, whole)
