"""The road through the API, for writers with nothing but a key: they lease and submit there, upload by its grants, and
read what everybody can read."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from msgspec.structs import replace

from stratus.costs.meter import Meter
from stratus.errors import Busy, NotFound, StoreError, StratusError
from stratus.formats import change_file
from stratus.formats.catalog import Nested
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Epoch
from stratus.formats.hashes import Digest
from stratus.formats.messages import LARGEST_INLINE, STAGED, LeaseGranted, LeaseRequest, Wanted
from stratus.formats.paths import components
from stratus.formats.receipt import Receipt, Requests
from stratus.formats.records import Settings
from stratus.leases import process_mark
from stratus.repository.head import Verify
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores.contract import Exchange, Observer, Store, Verb, ignore
from stratus.writers.api_client import ApiClient, LeaseName
from stratus.writers.granted import GrantDelivery, GrantUploader
from stratus.writers.remembered import era
from stratus.writers.road import Basis, Granted
from stratus.writers.store_writer import Leased, StoreWriter

_LEASE = Requests(put=2, list=1)  # the claim; the marker that counts for the key's quota, and a look at all of them
_RENEWAL = 10.0  # seconds in which a renewal is repeated; the next one comes anyway
_ONE_WAIT = 20.0  # seconds that one request waits for a receipt, and
_LEAST_WAIT = 0.5  # seconds between two of them
_LONGEST_WAIT = 3600.0  # seconds for a receipt


class ApiWriter(StoreWriter):
    """A ``Writer`` with a key. The API says whose key it is."""

    _lease = _LEASE

    def __init__(self, store: Store, client: ApiClient, verify: Verify, cache: Path | None = None) -> None:
        """``store`` is only read; ``verify`` is only used for forecasts; in ``cache`` is noted what was stored."""
        meter, recent = Meter(), Recent()
        observed = store.observed(meter)
        self._api = ApiRoad(client, meter)
        super().__init__(observed, client.fqrn, self._api, verify, client.credential, meter, recent, cache)

    def submit(self, change_set: ChangeSet) -> str:
        return super().submit(replace(change_set, writer=self._api.writer(change_set.id) or change_set.writer))

    def _delivery(self, leased: Leased, appraises: bool) -> GrantDelivery:
        return GrantDelivery(
            store=self._store,
            layout=self._layout,
            known=leased.known,
            remembered=leased.remembered,
            appraises=appraises,
            through=None if leased.granted is None else self._api.uploader(leased.granted),
            observer=self._meter,
        )

    def _is_safe(self, published: bool) -> bool:
        return published  # what was staged, or not yet synchronised, may go with its lease


class ApiRoad:
    """Leases and change sets over HTTP."""

    def __init__(self, client: ApiClient, observer: Observer) -> None:
        """``observer`` is told what a lease asks of the store: a receipt counts that, wherever it was asked from."""
        self._observer = observer
        self._client = client
        self._layout = Layout(client.fqrn)
        self._mark = process_mark.this_process()
        self._granted: dict[str, LeaseGranted] = {}

    def writer(self, lease: str) -> str | None:
        """Whose key a lease was granted to; None for one that is not held."""
        granted = self._granted.get(lease)
        return None if granted is None else granted.writer

    def uploader(self, lease: Granted) -> GrantUploader:
        """What uploads under a lease."""
        return GrantUploader(self._client, LeaseName(lease.id, lease.path), self._granted[lease.id].token)

    # -- leases ------------------------------------------------------------------------------------------------------

    def look(self) -> Basis:
        status = self._client.status()
        if status.start is None:
            raise StratusError(
                f"{self._client.url} does not say what a publish starts from", hint="is it the same version of stratus?"
            )
        root = Nested(b"", Digest.parse(status.root), status.root_size)
        return _basis(status.revision, root, status.start.settings, status.gc, status.start.collection)

    def acquire(self, path: bytes | None, wait: float) -> Granted:
        text = None if path is None else path.decode("utf-8", "surrogateescape")
        wish = LeaseRequest(path=text, host=os.uname().nodename, process=self._mark)
        granted = self._client.acquire(wish, wait)
        self._granted[granted.id] = granted
        self._count("put", _LEASE.put)
        self._count("list", _LEASE.list + (0 if path is None else len(components(path)) + 1))
        base = granted.base
        root = Nested(b"", Digest.parse(base.root), base.root_size)
        basis = _basis(base.revision, root, granted.settings, granted.gc, granted.collection)
        return Granted(granted.id, path, granted.ttl, granted.expires, basis)

    def _count(self, verb: Verb, times: int) -> None:
        for _ in range(times):
            self._observer(Exchange(verb, self._layout.lease(""), 200, 0, 0, 0.0))

    def renew(self, lease: Granted) -> None:
        self._client.renew(LeaseName(lease.id, lease.path), self._granted[lease.id].token, _RENEWAL)

    def release(self, lease: Granted) -> None:
        granted = self._granted.pop(lease.id, None)
        if granted is not None:
            with contextlib.suppress(StratusError):  # it expires
                self._client.release(LeaseName(lease.id, lease.path), granted.token, _RENEWAL)

    # -- change sets -------------------------------------------------------------------------------------------------

    def submit(self, lease: Granted, file: bytes, change_set: ChangeSet) -> Receipt:  # noqa: ARG002
        name, token = LeaseName(lease.id, lease.path), self._granted[lease.id].token
        if len(file) <= LARGEST_INLINE:
            found = self._client.submit(name, token, file)
            return found if isinstance(found, Receipt) else self._wait(lease.id)
        for grant in self._client.grants(name, token, [Wanted(STAGED, len(file))]).grants:
            self._client.put(name, grant, file, ignore)
        found = self._client.submit(name, token, b"", change_file.digest(file))
        return found if isinstance(found, Receipt) else self._wait(lease.id)

    def _wait(self, change_set: str) -> Receipt:
        """Its receipt. Raises what it was refused with; Busy or StoreError if nothing is heard of it."""
        hint = f"it is submitted: `stratus receipt {self._layout.fqrn} {change_set}` shows what becomes of it"
        begun = asked = time.monotonic()
        while asked < begun + _LONGEST_WAIT:
            try:
                found = self._client.receipt(change_set, _ONE_WAIT)
            except StoreError as error:
                raise StoreError(f"no receipt of the change set {change_set}: {error.message}", hint=hint) from error
            if isinstance(found, Receipt):
                return found
            time.sleep(max(asked + _LEAST_WAIT - time.monotonic(), 0.0))
            asked = time.monotonic()
        raise Busy(f"the change set {change_set} waits for a committer", hint=hint)

    def receipt(self, change_set: str) -> Receipt | None:
        try:
            found = self._client.receipt(change_set)
        except NotFound:
            return None
        return found if isinstance(found, Receipt) else None


def _basis(revision: int, root: Nested, settings: Settings, gc: Epoch, collection: str) -> Basis:
    return Basis(revision, root, settings, gc, era(collection, settings.algorithm, settings.packing))
