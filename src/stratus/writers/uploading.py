"""How the objects of a publish get into a store, or how it is found out what that would take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import msgspec

from stratus.errors import StoreError
from stratus.formats.receipt import Requests
from stratus.ingest.contract import NewObject, Packed, Uploader
from stratus.repository.layout import Layout
from stratus.stores.contract import Exchange, Item, Shared, Store
from stratus.writers.contract import Uploaded
from stratus.writers.known import KnownObjects
from stratus.writers.remembered import Remembered
from stratus.writers.uploaders import ASK_FIRST, Report, StoreAppraiser, StoreUploader

_FLUSHED_AT_ONCE = 32 << 20  # bytes


class StoreDelivery(msgspec.Struct):
    """A ``Delivery`` into a store, or with ``appraises`` one that only finds out what it would do.

    Attributes:
        known: objects that need not be looked for.
        remembered: objects of earlier publishes, if there is a place for them.
        uploaded: what was done so far.
        requests: that uploading what was appraised would take.
    """

    store: Store
    layout: Layout
    known: KnownObjects
    remembered: Remembered | None = None
    appraises: bool = False
    uploaded: Uploaded = msgspec.field(default_factory=Uploaded)
    requests: Requests = msgspec.field(default_factory=Requests)
    _flush: threading.Thread | None = None
    _flushed: int = 0  # bytes that had been sent when it began

    @property
    def uploader(self) -> Uploader:
        return (StoreAppraiser if self.appraises else StoreUploader)(self.store, self.layout)

    @property
    def anywhere(self) -> bool:
        return isinstance(self.store, Shared)

    def recall(self, keys: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes | None]:
        if self.remembered is None:
            return [None] * len(keys)
        found = self.remembered.find(keys)
        digests: list[bytes | None] = []
        plain = stored = present = 0
        for key, size in zip(keys, sizes, strict=True):
            digest, stored_size = found.get(key, (None, 0))
            digests.append(digest)
            if digest is not None:
                present += 1
                plain += size
                stored += stored_size
        self._count(present=present, plain=plain, stored=stored)
        return digests

    def wanted(self, objects: Sequence[Packed]) -> list[int]:
        known = self.known
        wanted = []
        plain = stored = 0
        for index, one in enumerate(objects):
            plain += one.plain_size
            stored += one.stored_size
            known.visit(one.path)
            if known.has(one.digest, one.suffix):
                self._remember(one)
            else:
                known.add(one.digest, one.suffix)  # is there once this one put is done
                wanted.append(index)
        self._count(present=len(objects) - len(wanted), plain=plain, stored=stored)
        return wanted

    def sent(self, objects: Sequence[Packed], report: Report) -> None:
        if report.exchanges and isinstance(self.store, Shared):
            for values in report.exchanges:
                self.store.tell(Exchange(*values))
        new = uploaded = puts = heads = 0
        for one, created in zip(objects, report.created, strict=True):
            large = one.stored_size > ASK_FIRST
            heads += large
            new += created is True
            if created if self.appraises and large else created is not None:
                puts += 1
                uploaded += one.stored_size
            self._remember(one)
        self._count(new=new, present=len(objects) - new, uploaded=uploaded)
        self._flush_meanwhile()
        self.requests = Requests(put=self.requests.put + puts, head=self.requests.head + heads)

    def _flush_meanwhile(self) -> None:
        """Has what was sent go to the disk already, so that less is left when the commit waits for it."""
        if self.appraises or self.uploaded.uploaded_bytes - self._flushed < _FLUSHED_AT_ONCE:
            return
        if self._flush is None or not self._flush.is_alive():
            self._flushed = self.uploaded.uploaded_bytes
            self._flush = threading.Thread(target=self._sync, name="flush", daemon=True)
            self._flush.start()

    def _sync(self) -> None:
        with contextlib.suppress(StoreError):  # the commit's own will say so
            self.store.sync()

    def keep(self, objects: Sequence[NewObject]) -> None:
        if not self.appraises:
            for _ in self.store.put_many(Item(self.layout.object(one.id), one.stored) for one in objects):
                pass
        self.requests = Requests(put=self.requests.put + len(objects), head=self.requests.head)

    def _remember(self, one: Packed) -> None:
        if self.remembered is not None and not self.appraises:
            self.remembered.add(one.key, one.digest, one.stored_size)

    def _count(self, new: int = 0, present: int = 0, plain: int = 0, stored: int = 0, uploaded: int = 0) -> None:
        old = self.uploaded
        self.uploaded = Uploaded(
            old.new + new,
            old.present + present,
            old.plain_bytes + plain,
            old.stored_bytes + stored,
            old.uploaded_bytes + uploaded,
        )
