"""The direct road: a writer who owns the store and the keys, and commits in this process."""

from __future__ import annotations

import contextlib
import getpass
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stratus.catalogs.tree import CatalogTree
from stratus.commit.round import Committer, Decision, Submission, commit, preview
from stratus.costs.meter import Meter
from stratus.costs.prices import AWS
from stratus.errors import BadSignature, Exists, StoreError, UsageError
from stratus.formats import paths, records
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import ChangeSet, new_id
from stratus.formats.chunking import ChunkLimits
from stratus.formats.hashes import ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Entries, Objects, Problem, Receipt, Requests, Seconds, Volumes
from stratus.formats.records import Collection, Format, Settings
from stratus.formats.trusted import verify_manifest
from stratus.ingest.contract import Policy
from stratus.repository import objects
from stratus.repository.head import Head, read_head
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.repository.revision import Revision
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Store
from stratus.stores.flows import Flow
from stratus.trust.keys import RepositoryKeys
from stratus.writers.contract import Forecast, Lease
from stratus.writers.known import KnownObjects
from stratus.writers.remembered import Remembered, era
from stratus.writers.uploading import StoreDelivery


@dataclass(slots=True)
class _Leased:
    """What was read when the lease was made, and what has become known since."""

    head: Head
    epoch: int
    settings: Settings
    revision: Revision
    known: KnownObjects
    remembered: Remembered | None = None
    appraised: StoreDelivery | None = None
    before: Requests = field(default_factory=Requests)  # what the writer had asked for when the lease began


class DirectWriter:
    """A ``Writer`` for the owner of store and keys.

    There are no leases yet: of two writers to one path the slower one is told, or its changes are applied on top.
    """

    def __init__(
        self, store: Store, fqrn: str, keys: RepositoryKeys, name: str | None = None, cache: Path | None = None
    ) -> None:
        """``name`` is who publishes, by default the user and the host; in ``cache`` is noted what was stored."""
        self._meter = Meter()
        self._store = store.observed(self._meter)
        self._fqrn = fqrn
        self._layout = Layout(fqrn)
        self._keys = keys
        self._cache = cache
        self.name = name if name is not None else f"{getpass.getuser()}@{socket.gethostname()}"
        self._leased: dict[str, _Leased] = {}
        self._receipts: dict[str, Receipt] = {}
        self._recent = Recent()

    @contextlib.contextmanager
    def lease(self, path: bytes | None, wait: float = 0) -> Iterator[Lease]:  # noqa: ARG002
        before = self._meter.requests
        leased = flows.run(self._open(), self._store)
        leased.before = before
        lease = Lease(new_id(), path, leased.head.manifest.revision)
        self._leased[lease.id] = leased
        try:
            yield lease
            self._keep(leased, published=lease.id in self._receipts)
        except Exception:
            self._keep(leased, published=False)
            raise
        finally:
            del self._leased[lease.id]
            leased.revision.close()
            if leased.remembered is not None:
                leased.remembered.close()

    def _keep(self, leased: _Leased, published: bool) -> None:
        """Remembers what was stored, once it is safe."""
        if leased.remembered is None or not leased.remembered.has_news:
            return
        if not published:
            self._store.sync()
        leased.remembered.save(leased.head.manifest.revision + published)

    def _open(self) -> Flow[_Leased]:
        # The epoch is read before the manifest: what that one names is present in this epoch.
        layout = self._layout
        blobs = yield from flows.together(
            [flows.get(key) for key in (layout.format, layout.settings, layout.collection)]
        )
        form, settings, collection = (blob.data for blob in blobs)
        records.parse(form, Format).check()
        head = yield from read_head(self._layout, self._verify, self._recent)
        reader = objects.Objects(self._store, self._layout, self._recent)

        def load(nested: Nested) -> Catalog:
            return Catalog.parse(head.root) if nested == head.at else reader.catalog(nested)

        tree = CatalogTree(head.at, load)
        now, how = records.parse(collection, Collection), records.parse(settings, Settings)
        remembered = None
        if self._cache is not None:
            name = era(now.nonce, how.algorithm, how.packing)
            remembered = Remembered(self._cache, self._store.url, self._fqrn, name, head.manifest.revision)
        return _Leased(head, now.n, how, Revision(head.at, reader, tree), KnownObjects(tree, reader), remembered)

    def _verify(self, data: bytes) -> Manifest:
        try:
            return verify_manifest(data, self._keys.certificate, self._fqrn)
        except BadSignature as error:
            raise BadSignature(
                f"these are not the keys that {self._fqrn} was signed with: {error.message}",
                hint="give the directory of the repository's own keys with --keys",
            ) from error

    def base(self, lease: Lease) -> Revision:
        return self._leased[lease.id].revision

    def policy(self, lease: Lease) -> Policy:
        settings = self._leased[lease.id].settings
        limits = ChunkLimits(settings.chunk_minimum, settings.chunk_average, settings.chunk_maximum)
        return Policy(settings.algorithm, settings.packing, limits)

    # -- objects -----------------------------------------------------------------------------------------------------

    def missing(self, lease: Lease, ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = self._leased[lease.id].known
        return self._absent(object_id for object_id in ids if object_id not in known)

    def _absent(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        keys = {self._layout.object(object_id): object_id for object_id in ids}
        return {keys[key] for key in self._store.missing(keys)} if keys else set()

    def upload(self, lease: Lease) -> StoreDelivery:
        leased = self._leased[lease.id]
        return StoreDelivery(self._store, self._layout, leased.known, leased.remembered)

    def appraise(self, lease: Lease) -> StoreDelivery:
        leased = self._leased[lease.id]
        leased.appraised = StoreDelivery(self._store, self._layout, leased.known, leased.remembered, appraises=True)
        return leased.appraised

    def forecast(self, change_set: ChangeSet) -> Forecast:
        leased = self._leased[change_set.id]
        appraised = Requests() if leased.appraised is None else leased.appraised.requests
        before = self._meter.requests.head  # without those that appraising made
        submission = Submission(change_set, leased.epoch, leased.head)
        flow = preview(self._committer(leased), submission, leased.head)
        outcome, stored, warnings = flows.run(flow, self._store)
        read = self._meter.requests
        requests = Requests(
            get=read.get - leased.before.get + 1,  # the epoch is read once more
            put=appraised.put + stored + 3,  # and reflog, manifest, receipt
            head=appraised.head + read.head - before,
        )
        return Forecast(
            tuple(change_set.changes),
            Entries(*outcome.entries),
            Objects(*outcome.objects),
            Volumes(*outcome.bytes),
            requests,
            AWS.price(requests),
            change_set.warnings + warnings,
        )

    # -- change sets -------------------------------------------------------------------------------------------------

    def submit(self, change_set: ChangeSet) -> str:
        if change_set.id in self._receipts:
            return change_set.id
        leased = self._leased.get(change_set.id)
        if leased is None:
            raise UsageError(
                "a change set is submitted while its lease is held", hint="submit it inside the lease's block"
            )
        begun = time.monotonic()
        submission = Submission(change_set, leased.epoch, leased.head)
        decisions = flows.run(commit(self._committer(leased), [submission], leased.head), self._store)
        decision = decisions[change_set.id]
        if decision.error is not None:
            raise decision.error
        receipt = self._receipt(change_set, decision, leased.before, time.monotonic() - begun)
        try:
            self._store.put(self._layout.receipt(change_set.id), receipt.pack(), ABSENT)
        except Exists:
            pass
        except StoreError as error:  # it is published all the same, and the root catalog says so
            warnings = (*receipt.warnings, f"the receipt was not stored: {error}")
            receipt = msgspec.structs.replace(receipt, warnings=warnings)
        self._receipts[change_set.id] = receipt
        return change_set.id

    def _committer(self, leased: _Leased) -> Committer:
        return Committer(self._layout, leased.settings, self._verify, self._keys.sign_manifest, self._recent)

    def receipt(self, change_set: str, wait: float = 0) -> Receipt | None:  # noqa: ARG002
        return self._receipts.get(change_set)

    def _receipt(self, change_set: ChangeSet, decision: Decision, before: Requests, seconds: float) -> Receipt:
        outcome = decision.outcome
        counted = self._meter.requests.since(before)
        requests = Requests(counted.get, counted.put + 1, counted.list, counted.head, counted.delete)  # and the receipt
        return Receipt(
            id=change_set.id,
            state=outcome.state,
            repository=change_set.repository,
            path=paths.display(change_set.path),
            revision=outcome.revision,
            root=str(decision.root),
            writer=change_set.writer,
            message=change_set.message,
            tag=change_set.tag,
            entries=Entries(*outcome.entries),
            objects=Objects(*outcome.objects),
            bytes=Volumes(*outcome.bytes),
            requests=requests,
            seconds=Seconds(ingest=round(change_set.usage.seconds, 3), commit=round(seconds, 3)),
            invocations=1,
            cost=AWS.price(requests),
            warnings=change_set.warnings + decision.warnings,
            error=None if outcome.state == "published" else Problem(outcome.code, outcome.code),
        )
