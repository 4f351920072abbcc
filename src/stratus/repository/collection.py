"""The reading side of garbage collection: the epoch, and what the sweeps since then condemned."""

from __future__ import annotations

from collections.abc import Iterable

from stratus.formats import condemned, records
from stratus.formats.hashes import ObjectId
from stratus.formats.records import Collection
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow


def read_collection(layout: Layout) -> Flow[Collection]:
    """The state of garbage collection as it is now."""
    blob = yield from flows.get(layout.collection)
    return records.parse(blob.data, Collection)


def condemned_since(layout: Layout, now: Collection, n: int, objects: Iterable[ObjectId]) -> Flow[set[ObjectId] | None]:
    """Those of the objects that were condemned in the epochs after ``n``; None if a list of them is not kept any more.

    With ``n`` one less than the present epoch: those that the present sweep is about to delete.
    """
    by_shard: dict[str, list[ObjectId]] = {}
    for object_id in objects:
        by_shard.setdefault(condemned.shard_of(object_id), []).append(object_id)
    lists = {int(name.partition("-")[0]): name for name in now.lists}
    epochs = range(n + 1, now.n + 1)
    if not all(epoch in lists for epoch in epochs):
        return None
    asked = [(epoch, shard) for epoch in epochs for shard in by_shard]
    blobs = yield from flows.together([flows.find(layout.condemned(lists[epoch], shard)) for epoch, shard in asked])
    if None in blobs:
        return None
    found: set[ObjectId] = set()
    for (_, shard), blob in zip(asked, blobs, strict=True):
        found |= condemned.among(blob.data, by_shard[shard])
    return found
