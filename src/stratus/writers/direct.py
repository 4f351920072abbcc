"""The direct road: a writer who owns the store and the keys, and commits in this process."""

from __future__ import annotations

import contextlib
import getpass
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from stratus.catalogs.tree import CatalogTree
from stratus.commit.round import Committer, Decision, Submission, commit, preview
from stratus.costs.meter import Meter
from stratus.costs.prices import AWS
from stratus.errors import Exists, StoreError, UsageError
from stratus.formats import paths, records
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import ChangeSet, new_id
from stratus.formats.chunking import ChunkLimits
from stratus.formats.hashes import ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Entries, Objects, Problem, Receipt, Requests, Seconds, Volumes
from stratus.formats.records import Collection, Format, Settings
from stratus.formats.trusted import verify_manifest
from stratus.ingest.contract import NewObject, Policy
from stratus.repository import objects
from stratus.repository.head import Head, read_head
from stratus.repository.layout import Layout
from stratus.repository.revision import Revision
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Created, Item, Store
from stratus.stores.flows import Flow
from stratus.trust.keys import RepositoryKeys
from stratus.writers.contract import Forecast, Lease, Uploaded
from stratus.writers.known import KnownObjects

# Above this size asking first costs less than sending what may be there already. Bytes.
_ASK_FIRST = 1 << 20
_LOOKED_AT_ONCE = 500


@dataclass(slots=True)
class _Leased:
    """What was read when the lease was made, and what has become known since."""

    head: Head
    epoch: int
    settings: Settings
    revision: Revision
    known: KnownObjects
    appraised: Requests = field(default_factory=Requests)  # what uploading what was appraised would ask for


class DirectWriter:
    """A ``Writer`` for the owner of store and keys.

    There are no leases yet: of two writers to one path the slower one is told, or its changes are applied on top.
    """

    def __init__(self, store: Store, fqrn: str, keys: RepositoryKeys, name: str | None = None) -> None:
        """``name`` is who publishes, by default the user and the host."""
        self._meter = Meter()
        self._store = store.observed(self._meter)
        self._fqrn = fqrn
        self._layout = Layout(fqrn)
        self._keys = keys
        self.name = name if name is not None else f"{getpass.getuser()}@{socket.gethostname()}"
        self._leased: dict[str, _Leased] = {}
        self._receipts: dict[str, Receipt] = {}

    @contextlib.contextmanager
    def lease(self, path: bytes | None, wait: float = 0) -> Iterator[Lease]:  # noqa: ARG002
        leased = flows.run(self._open(), self._store)
        lease = Lease(new_id(), path, leased.head.manifest.revision)
        self._leased[lease.id] = leased
        try:
            yield lease
        finally:
            del self._leased[lease.id]
            leased.revision.close()

    def _open(self) -> Flow[_Leased]:
        # The epoch is read before the manifest: what that one names is present in this epoch.
        layout = self._layout
        blobs = yield from flows.together(
            [flows.get(key) for key in (layout.format, layout.settings, layout.collection)]
        )
        form, settings, collection = (blob.data for blob in blobs)
        records.parse(form, Format).check()
        head = yield from read_head(self._layout, self._verify)
        reader = objects.Objects(self._store, self._layout)

        def load(nested: Nested) -> Catalog:
            return Catalog.parse(head.root) if nested == head.at else reader.catalog(nested)

        tree = CatalogTree(head.at, load)
        return _Leased(
            head,
            records.parse(collection, Collection).n,
            records.parse(settings, Settings),
            Revision(head.at, reader, tree),
            KnownObjects(tree, reader),
        )

    def _verify(self, data: bytes) -> Manifest:
        return verify_manifest(data, self._keys.certificate, self._fqrn)

    def base(self, lease: Lease) -> Revision:
        return self._leased[lease.id].revision

    def policy(self, lease: Lease) -> Policy:
        settings = self._leased[lease.id].settings
        limits = ChunkLimits(settings.chunk_minimum, settings.chunk_average, settings.chunk_maximum)
        return Policy(settings.algorithm, settings.file_compression, limits)

    # -- objects -----------------------------------------------------------------------------------------------------

    def missing(self, lease: Lease, ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = self._leased[lease.id].known
        return self._absent(object_id for object_id in ids if object_id not in known)

    def _absent(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        keys = {self._layout.object(object_id): object_id for object_id in ids}
        return {keys[key] for key in self._store.missing(keys)} if keys else set()

    def upload(self, lease: Lease, objects: Iterable[NewObject]) -> Uploaded:
        leased = self._leased[lease.id]
        new = present = plain = stored = uploaded = 0
        sizes: dict[str, tuple[int, int]] = {}

        def wanted() -> Iterator[Item]:
            nonlocal present, plain, stored
            for item in objects:
                plain += item.plain_size
                stored += len(item.stored)
                if item.id in leased.known or (len(item.stored) > _ASK_FIRST and not self._absent([item.id])):
                    present += 1
                    continue
                leased.known.add(item.id)  # is there once this one put is done
                key = self._layout.object(item.id)
                sizes[key] = item.plain_size, len(item.stored)
                yield Item(key, item.stored)

        for result in self._store.put_many(wanted()):
            _, size = sizes.pop(result.key)
            uploaded += size
            if isinstance(result, Created):
                new += 1
            else:
                present += 1
        return Uploaded(new, present, plain, stored, uploaded)

    def appraise(self, lease: Lease, objects: Iterable[NewObject]) -> Uploaded:
        leased = self._leased[lease.id]
        new = present = plain = stored = uploaded = 0
        puts = heads = 0
        unknown: dict[ObjectId, int] = {}

        def look() -> None:
            nonlocal new, present, uploaded, puts, heads
            missing = self._absent(unknown)
            new += len(missing)
            present += len(unknown) - len(missing)
            asked = {object_id for object_id, size in unknown.items() if size > _ASK_FIRST}
            heads += len(asked)
            sent = unknown.keys() - (asked - missing)
            puts += len(sent)
            uploaded += sum(unknown[object_id] for object_id in sent)
            unknown.clear()

        for item in objects:
            plain += item.plain_size
            stored += len(item.stored)
            if item.id in leased.known:
                present += 1
                continue
            leased.known.add(item.id)
            unknown[item.id] = len(item.stored)
            if len(unknown) >= _LOOKED_AT_ONCE:
                look()
        look()
        leased.appraised = Requests(put=puts, head=heads)
        return Uploaded(new, present, plain, stored, uploaded)

    def forecast(self, change_set: ChangeSet) -> Forecast:
        leased = self._leased[change_set.id]
        before = self._meter.requests.head
        submission = Submission(change_set, leased.epoch, leased.head)
        flow = preview(self._committer(leased), submission, leased.head)
        outcome, stored, warnings = flows.run(flow, self._store)
        read = self._meter.requests
        requests = Requests(
            get=read.get + 1,  # the epoch is read once more
            put=leased.appraised.put + stored + 3,  # and reflog, manifest, receipt
            head=leased.appraised.head + read.head - before,
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
        receipt = self._receipt(change_set, decision, time.monotonic() - begun)
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
        return Committer(self._layout, leased.settings, self._verify, self._keys.sign_manifest)

    def receipt(self, change_set: str, wait: float = 0) -> Receipt | None:  # noqa: ARG002
        return self._receipts.get(change_set)

    def _receipt(self, change_set: ChangeSet, decision: Decision, seconds: float) -> Receipt:
        outcome = decision.outcome
        counted = self._meter.requests
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
