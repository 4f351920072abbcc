"""What all writers have in common, on whatever road their leases and change sets go: they read a store, and know what
is there; this one uploads into it, too."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import astuple, replace

from stratus.catalogs.tree import CatalogTree
from stratus.commit.folding import RepositoryTree, preview
from stratus.costs.meter import Meter
from stratus.costs.prices import AWS
from stratus.errors import LeaseLost, Rejected, StratusError, UsageError
from stratus.formats import change_file
from stratus.formats.changes import ChangeSet
from stratus.formats.chunking import ChunkLimits
from stratus.formats.hashes import ObjectId
from stratus.formats.paths import components
from stratus.formats.receipt import Entries, Objects, Receipt, Requests, Volumes
from stratus.ingest.contract import Policy
from stratus.repository import objects
from stratus.repository.head import Verify, read_head
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.repository.revision import Revision
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.writers.contract import Forecast, Lease
from stratus.writers.known import KnownObjects
from stratus.writers.remembered import Remembered
from stratus.writers.road import Basis, Granted, Road
from stratus.writers.uploading import StoreDelivery

# What a publish asks for, beside what its forecast asks for and what it stores (the protocol, step by step).
_SUBMISSION = Requests(put=3, get=1)  # change set, queue entry, seal; lock
_COMMIT = Requests(put=6, get=5, list=3, delete=2)  # lock three times, reflog, manifest, receipt; …


class Leased(msgspec.Struct):
    """What is held, what was read when the lease was made, and what has become known since."""

    basis: Basis
    revision: Revision
    known: KnownObjects
    granted: Granted | None = None
    remembered: Remembered | None = None
    appraised: StoreDelivery | None = None
    before: Requests = msgspec.field(default_factory=Requests)  # what the writer had asked for when the lease began
    renewal: _Renewal | None = None
    submitted: bool = False


class StoreWriter:
    """A ``Writer`` who may put objects into the store."""

    _lease = Requests(put=1)  # that a lease takes; and a listing of the path and of each directory above

    def __init__(
        self,
        store: Store,
        fqrn: str,
        road: Road,
        verify: Verify,
        name: str,
        meter: Meter,
        recent: Recent,
        cache: Path | None = None,
    ) -> None:
        """``meter`` observes ``store``; in ``cache`` is noted what was stored."""
        self._store = store
        self._fqrn = fqrn
        self._layout = Layout(fqrn)
        self._road = road
        self._verify = verify
        self._meter = meter
        self._recent = recent
        self._cache = cache
        self.name = name
        self._leased: dict[str, Leased] = {}
        self._receipts: dict[str, Receipt] = {}

    @contextlib.contextmanager
    def lease(self, path: bytes | None, wait: float = 0) -> Iterator[Lease]:
        before = self._meter.requests
        granted = self._road.acquire(path, wait)
        renewal = _Renewal(self._road, granted)
        leased: Leased | None = None
        try:
            leased = self._begin(granted.basis, before)
            leased.granted, leased.renewal = granted, renewal
            self._leased[granted.id] = leased
            yield Lease(granted.id, path, granted.basis.revision, granted.expires)
            self._keep(leased, published=granted.id in self._receipts)
        except Exception:
            if leased is not None:
                self._keep(leased, published=False)
            raise
        finally:
            renewal.stop()
            self._leased.pop(granted.id, None)
            if leased is None or not leased.submitted:
                self._road.release(granted)
            self._end(leased)

    @contextlib.contextmanager
    def look(self, path: bytes | None) -> Iterator[Lease]:
        before = self._meter.requests
        basis = self._road.look()
        leased = self._begin(basis, before)
        looked = Lease("", path, basis.revision)
        self._leased[looked.id] = leased
        try:
            yield looked
        finally:
            del self._leased[looked.id]
            self._end(leased)

    def _begin(self, basis: Basis, before: Requests) -> Leased:
        reader = objects.Objects(self._store, self._layout, self._recent)
        tree = CatalogTree(basis.root, reader.catalog)
        remembered = None
        if self._cache is not None:
            remembered = Remembered(self._cache, self._store.url, self._fqrn, basis.era, basis.revision)
        revision = Revision(basis.root, reader, tree)
        return Leased(basis, revision, KnownObjects(tree, reader), remembered=remembered, before=before)

    @staticmethod
    def _end(leased: Leased | None) -> None:
        if leased is not None:
            leased.revision.close()
            if leased.remembered is not None:
                leased.remembered.close()

    def _keep(self, leased: Leased, published: bool) -> None:
        """Remembers what was stored, once it is safe."""
        if leased.remembered is None or not leased.remembered.has_news:
            return
        if self._is_safe(published):
            leased.remembered.save(leased.basis.revision + published)

    def _is_safe(self, published: bool) -> bool:
        """Whether what was uploaded will be there, even if it was not published."""
        if not published:
            self._store.sync()
        return True

    def base(self, lease: Lease) -> Revision:
        return self._leased[lease.id].revision

    def policy(self, lease: Lease) -> Policy:
        settings = self._leased[lease.id].basis.settings
        limits = ChunkLimits(settings.chunk_minimum, settings.chunk_average, settings.chunk_maximum)
        return Policy(settings.algorithm, settings.packing, limits, settings.catalog_weight)

    # -- objects -----------------------------------------------------------------------------------------------------

    def missing(self, lease: Lease, ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = self._leased[lease.id].known
        keys = {self._layout.object(object_id): object_id for object_id in ids if object_id not in known}
        return {keys[key] for key in self._store.missing(keys)} if keys else set()

    def upload(self, lease: Lease) -> StoreDelivery:
        return self._delivery(self._leased[lease.id], appraises=False)

    def appraise(self, lease: Lease) -> StoreDelivery:
        leased = self._leased[lease.id]
        leased.appraised = self._delivery(leased, appraises=True)
        return leased.appraised

    def _delivery(self, leased: Leased, appraises: bool) -> StoreDelivery:
        """Where objects go."""
        return StoreDelivery(self._store, self._layout, leased.known, leased.remembered, appraises)

    def forecast(self, change_set: ChangeSet) -> Forecast:
        leased = self._leased[change_set.id]
        appraised = Requests() if leased.appraised is None else leased.appraised.requests
        heads = self._meter.requests.head  # without those that appraising made
        tree = RepositoryTree(self._layout, leased.basis.settings, self._verify, _cannot_sign, self._recent)
        head = flows.run(read_head(self._layout, self._verify, self._recent), self._store)
        made = flows.run(preview(tree, change_set, head), self._store)
        outcome = made.outcomes[change_set.id]
        read = self._meter.requests
        requests = Requests(
            get=read.get - leased.before.get - 1,  # the manifest was read once more than that
            put=appraised.put + len(made.objects),
            head=appraised.head + read.head - heads,
            list=len(components(change_set.path)) + 1,
        )
        requests = requests.plus(self._lease).plus(_SUBMISSION).plus(_COMMIT)
        return Forecast(
            change_set.changes,
            Entries(*outcome.entries),
            Objects(*outcome.objects),
            Volumes(*outcome.bytes),
            requests,
            AWS.price(requests),
            change_set.warnings + made.warnings,
        )

    # -- change sets -------------------------------------------------------------------------------------------------

    def submit(self, change_set: ChangeSet) -> str:
        if change_set.id in self._receipts:
            return change_set.id
        leased = self._leased.get(change_set.id)
        if leased is None or leased.granted is None or leased.renewal is None:
            raise UsageError(
                "a change set is submitted while its lease is held", hint="submit it inside the lease's block"
            )
        leased.renewal.stop()
        spent = self._meter.requests.since(leased.before).plus(_SUBMISSION)
        usage = replace(change_set.usage, requests=astuple(spent))
        file = change_file.pack(replace(change_set, usage=usage))
        receipt = self._road.submit(leased.granted, file, change_set)
        leased.submitted = True
        if receipt.error is not None:
            error = receipt.error
            path = None if error.path is None else error.path.encode("utf-8", "surrogateescape")
            raise Rejected(error.message, reason=error.code, hint=error.hint, path=path)
        self._receipts[change_set.id] = receipt
        return change_set.id

    def receipt(self, change_set: str, wait: float = 0) -> Receipt | None:
        until = time.monotonic() + wait
        while True:
            found = self._receipts.get(change_set) or self._road.receipt(change_set)
            if found is not None or time.monotonic() >= until:
                return found
            time.sleep(min(1.0, wait))


class _Renewal:
    """Renews a lease until it is stopped, in a thread of its own; raises what went wrong when it is stopped."""

    def __init__(self, road: Road, granted: Granted) -> None:
        self._road = road
        self._granted = granted
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if granted.path is not None:
            self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
            self._thread.start()

    def _renew(self) -> None:
        while not self._over.wait(self._granted.ttl / 3):
            try:
                self._road.renew(self._granted)
            except LeaseLost:
                return  # submitting will say so
            except StratusError:
                continue

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


def _cannot_sign(_: object) -> bytes:
    raise AssertionError("a forecast signs nothing")
