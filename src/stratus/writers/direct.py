"""The direct road: a writer who owns the store and the keys, and commits in this process if nobody else does."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import secrets
import time
from datetime import timedelta
from pathlib import Path

import msgspec

from stratus.commit import locking
from stratus.commit.committing import Committed, Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.locking import SeenLock
from stratus.commit.receipts import find_receipt, pauses
from stratus.commit.submitting import Submitted, submit
from stratus.costs.meter import Meter
from stratus.errors import BadSignature, Busy, LeaseHeld, StoreError, StratusError, Unknown
from stratus.formats import records
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Epoch
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Collection, Format, Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases import process_mark
from stratus.leases.acquiring import Wish
from stratus.leases.holding import Held, release, renew
from stratus.leases.waiting import acquire_waiting
from stratus.repository.collection import condemned_since
from stratus.repository.head import read_pointer
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Flow
from stratus.trust.keys import RepositoryKeys
from stratus.writers.remembered import era
from stratus.writers.road import Basis, Granted
from stratus.writers.store_writer import StoreWriter

_INSTANCES = itertools.count()
_TRIES = 5  # of a submission whose answer was lost, and of a lease that is about to be free
_LOST = 20  # times that the lock was free, and yet the change set not committed
_PAUSE = 0.3  # seconds
_KEPT = 60.0  # seconds that private records are used
_LONGEST_WAIT = 3600.0  # seconds for a receipt


class DirectWriter(StoreWriter):
    """A ``Writer`` for the owner of store and keys."""

    def __init__(
        self, store: Store, fqrn: str, keys: RepositoryKeys, name: str | None = None, cache: Path | None = None
    ) -> None:
        """``name`` is who publishes, by default the user and the host; in ``cache`` is noted what was stored."""
        meter, recent = Meter(), Recent()
        observed = store.observed(meter)
        who = name if name is not None else f"{getpass.getuser()}@{os.uname().nodename}"
        road = DirectRoad(observed, fqrn, keys, who, meter, recent)
        super().__init__(observed, fqrn, road, road.verify, who, meter, recent, cache)


class _Private(msgspec.Struct, frozen=True):
    """The private records that a writer needs, and when they were read, by ``time.monotonic``."""

    settings: Settings
    collection: Collection
    read: float

    @property
    def epoch(self) -> Epoch:
        return Epoch.of(self.collection)


class _Holding(msgspec.Struct):
    """A lease of ours: its claim as it was written last, and the collection as it was read before it."""

    held: Held
    collection: Collection


class DirectRoad:
    """The flows of the protocol, run in this process."""

    def __init__(self, store: Store, fqrn: str, keys: RepositoryKeys, name: str, meter: Meter, recent: Recent) -> None:
        self._store = store
        self._layout = Layout(fqrn)
        self._keys = keys
        self._name = name
        self._meter = meter
        self._recent = recent
        self._mark = f"{process_mark.this_process()} {next(_INSTANCES)}"
        self._holding: dict[str, _Holding] = {}
        self._receipts: dict[str, None] = {}  # that are known to be there
        self._private: _Private | None = None

    def verify(self, data: bytes) -> Manifest:
        """Raises BadSignature, with what to do."""
        fqrn = self._layout.fqrn
        try:
            return verify_manifest(data, self._keys.certificate, fqrn)
        except BadSignature as error:
            raise BadSignature(
                f"these are not the keys that {fqrn} was signed with: {error.message}",
                hint="give the directory of the repository's own keys with --keys",
            ) from error

    # -- leases ------------------------------------------------------------------------------------------------------

    def look(self) -> Basis:
        return flows.run(self._look(), self._store)

    def _look(self) -> Flow[Basis]:
        private = yield from self._read_private()
        return (yield from self._basis(private))

    def _read_private(self) -> Flow[_Private]:
        """Format, settings, collection; what was read a moment ago is used again, an older epoch is always safe."""
        if self._private is not None and time.monotonic() - self._private.read < _KEPT:
            return self._private
        layout, read = self._layout, time.monotonic()
        blobs = yield from flows.together(
            [flows.get(key) for key in (layout.format, layout.settings, layout.collection)]
        )
        form, settings, collection = (blob.data for blob in blobs)
        records.parse(form, Format).check()
        self._private = _Private(records.parse(settings, Settings), records.parse(collection, Collection), read)
        return self._private

    def _basis(self, private: _Private) -> Flow[Basis]:
        # The epoch was read before the manifest: what that one names is present in this epoch.
        pointer = yield from read_pointer(self._layout, self.verify)
        settings = private.settings
        name = era(private.collection.nonce, settings.algorithm, settings.packing)
        return Basis(pointer.manifest.revision, pointer.at, settings, private.epoch, name)

    def acquire(self, path: bytes | None, wait: float) -> Granted:
        for _ in range(_TRIES):
            try:
                return flows.run(self._acquire(path, wait), self._store)
            except LeaseHeld as error:
                if error.expires is not None:
                    raise
            # Somebody's change set is being committed, or waits for somebody to do it.
            if not self._commit_if_free(flows.run(locking.look(self._layout), self._store)):
                time.sleep(_PAUSE)
        return flows.run(self._acquire(path, wait), self._store)

    def _acquire(self, path: bytes | None, wait: float) -> Flow[Granted]:
        private = yield from self._read_private()
        wish = Wish(path, self._name, os.uname().nodename, secrets.token_urlsafe(16), process=self._mark)
        held = yield from acquire_waiting(self._layout, wish, private.epoch, wait, process_mark.has_ended)
        now = yield from flows.now()
        try:
            basis = yield from self._basis(private)
        except StratusError:
            yield from release(self._layout, held)
            raise
        self._holding[held.claim.id] = _Holding(held, private.collection)
        return Granted(held.claim.id, path, wish.ttl, now + timedelta(seconds=wish.ttl), basis)

    def renew(self, lease: Granted) -> None:
        holding = self._holding[lease.id]
        holding.held = flows.run(renew(self._layout, holding.held), self._store)

    def release(self, lease: Granted) -> None:
        holding = self._holding.pop(lease.id, None)
        if holding is not None:
            with contextlib.suppress(StoreError):  # it expires
                flows.run(release(self._layout, holding.held), self._store)

    # -- change sets -------------------------------------------------------------------------------------------------

    def submit(self, lease: Granted, file: bytes, change_set: ChangeSet) -> Receipt:
        submitted = self._submit(self._holding[lease.id], file, change_set)
        if isinstance(submitted, Receipt):
            return submitted
        until = time.monotonic() + _LONGEST_WAIT
        seen, lost = submitted.lock, 0
        looks = pauses(_PAUSE)
        while True:
            committed = self._commit_if_free(seen)
            lost += committed is not None
            receipt = None if committed is None else committed.receipts.get(change_set.id)
            if receipt is not None and committed is not None and committed.trouble:
                receipt = msgspec.structs.replace(receipt, warnings=(*receipt.warnings, committed.trouble))
            receipt = receipt or self.receipt(change_set.id)
            if receipt is not None:
                return receipt
            if time.monotonic() > until or lost > _LOST:
                raise Busy(
                    f"the change set {change_set.id} is submitted, and waits for a committer",
                    hint=f"`stratus receipt {self._layout.fqrn} {change_set.id}` shows what becomes of it",
                )
            time.sleep(next(looks))
            seen = flows.run(locking.look(self._layout), self._store)

    def _submit(self, holding: _Holding, file: bytes, change_set: ChangeSet) -> Submitted | Receipt:
        epoch = Epoch.of(holding.collection)

        def check() -> Flow[None]:
            return self._check_condemned(holding.collection, change_set)

        checks = None if epoch.phase == "quiet" else check
        for attempt in itertools.count(1):
            try:
                flow = submit(self._layout, holding.held, file, change_set.base, epoch, checks)
                return flows.run(flow, self._store)
            except Unknown:
                if attempt >= _TRIES:
                    raise
        raise AssertionError

    def _check_condemned(self, collection: Collection, change_set: ChangeSet) -> Flow[None]:
        """What the sweep that was running is about to delete must not be built upon."""
        condemned = yield from condemned_since(self._layout, collection, collection.n - 1, change_set.objects)
        if condemned is None or condemned:
            raise Busy(
                "garbage collection is about to delete objects that this publish needs",
                hint="publish again in a few minutes",
            )

    def _commit_if_free(self, seen: SeenLock) -> Committed | None:
        if not seen.is_free(self._store.now(), process_mark.has_ended):
            return None
        return flows.run(self._commit(seen), self._store)

    def _commit(self, seen: SeenLock) -> Flow[Committed]:
        private = yield from self._read_private()
        tree = RepositoryTree(self._layout, private.settings, self.verify, self._keys.sign_manifest, self._recent)
        committer = Committer(
            self._layout,
            tree,
            self._mark,
            process_mark.has_ended,
            lambda: self._meter.requests,
            receipts=self._receipts,
        )
        return (yield from commit(committer, seen))

    def receipt(self, change_set: str) -> Receipt | None:
        return flows.run(find_receipt(self._layout, change_set), self._store)
