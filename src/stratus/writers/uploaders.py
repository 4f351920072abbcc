"""What puts packed objects into a store, or looks whether they are there.

They may be used in other processes, where the store is one that can be opened there too; what they ask of it is then
reported, so that the observers here hear of every request. A process that only uploads imports no more than this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stratus.ingest.contract import NewObject
from stratus.repository.layout import Layout
from stratus.stores.contract import Created, Exchange, Item, Shared, Store

ASK_FIRST = 1 << 20  # bytes; above this size asking first costs less than sending what may be there already


class Report(NamedTuple):
    """What became of some objects, in their order: created or not, and None for what was not sent.

    ``exchanges`` are those that nobody here has heard of.
    """

    created: list[bool | None]
    exchanges: Sequence[tuple[Any, ...]]


class StoreUploader:
    """Puts objects into a store; after it was sent to another process, into the same one from there."""

    def __init__(self, store: Store, layout: Layout, exchanges: list[Exchange] | None = None) -> None:
        """``exchanges`` is where the store's observer notes what has to be reported."""
        self._store = store
        self._layout = layout
        self._exchanges = exchanges

    def __reduce__(self) -> tuple[Callable[..., StoreUploader], tuple[object, ...]]:
        assert isinstance(self._store, Shared)
        return _reopen, (type(self), self._store.elsewhere(), self._layout)

    def __call__(self, objects: Sequence[NewObject]) -> Report:
        """Raises StoreError."""
        keys = [self._layout.object(one.id) for one in objects]
        large = {key for key, one in zip(keys, objects, strict=True) if len(one.stored) > ASK_FIRST}
        present = large - self._store.missing(large) if large else set()
        items = (Item(key, one.stored) for key, one in zip(keys, objects, strict=True) if key not in present)
        made = {result.key: isinstance(result, Created) for result in self._store.put_many(items)}
        return self._report([made.get(key) for key in keys])

    def _report(self, created: list[bool | None]) -> Report:
        if not self._exchanges:
            return Report(created, [])
        told = [(one.verb, one.key, one.status, one.sent, one.received, one.seconds) for one in self._exchanges]
        self._exchanges.clear()
        return Report(created, told)


class StoreAppraiser(StoreUploader):
    """Looks what a store lacks, and stores nothing: ``created`` says what would be."""

    def __call__(self, objects: Sequence[NewObject]) -> Report:
        keys = [self._layout.object(one.id) for one in objects]
        missing = self._store.missing(keys)
        return self._report([key in missing for key in keys])


def _reopen(kind: type[StoreUploader], opener: Callable[[], Store], layout: Layout) -> StoreUploader:
    exchanges: list[Exchange] = []
    return kind(opener().observed(exchanges.append), layout, exchanges)
