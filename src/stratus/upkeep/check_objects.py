"""Objects: that they are there, and on demand that they hold what the tree says."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from stratus.errors import BadFormat, BadHash, NotFound
from stratus.formats import paths
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId
from stratus.repository.layout import Layout
from stratus.repository.objects import unpacked
from stratus.stores.contract import Store
from stratus.upkeep.check_problems import LookedAt, Problem, Wanted

_BATCH = 4096  # objects that are asked for at once
_REMEMBERED = 1 << 17  # objects that are not asked for again; about 40 MB


def fetch(
    store: Store, layout: Layout, object_id: ObjectId, looked_at: LookedAt, path: bytes | None = None
) -> Generator[Problem, None, bytes | None]:
    """The plain bytes of a zlib object that something needs; None after a problem."""
    try:
        stored = store.get(layout.object(object_id)).data
    except NotFound:
        yield _missing(object_id, path)
        return None
    looked_at.bytes += len(stored)
    return (yield from _unpacked(Wanted(object_id, Compression.ZLIB, None, path), stored))


def check_objects(
    store: Store, layout: Layout, found: Iterable[Problem | Wanted], data: bool, looked_at: LookedAt
) -> Iterator[Problem]:
    """The problems in ``found`` as they come, and those of the objects that are wanted, in batches.

    With ``data``, objects are read, hashed, unpacked and measured; without, only their existence is asked for.
    """
    known: set[tuple[ObjectId, Compression, int | None]] = set()
    batch: dict[tuple[ObjectId, Compression, int | None], Wanted] = {}
    for item in found:
        if isinstance(item, Problem):
            yield item
            continue
        # Without data only the name matters.
        name = (item.id, item.compression, item.size) if data else (item.id, Compression.ZLIB, None)
        if name in known or name in batch:
            continue
        batch[name] = item
        if len(known) < _REMEMBERED:
            known.add(name)
        if len(batch) == _BATCH:
            yield from _examine(store, layout, batch.values(), data, looked_at)
            batch.clear()
    yield from _examine(store, layout, batch.values(), data, looked_at)


def _examine(
    store: Store, layout: Layout, batch: Iterable[Wanted], data: bool, looked_at: LookedAt
) -> Iterator[Problem]:
    by_key: dict[str, list[Wanted]] = {}
    for wanted in batch:
        by_key.setdefault(layout.object(wanted.id), []).append(wanted)
    looked_at.objects += len(by_key)
    if not data:
        absent = store.missing(by_key) if by_key else set()
        yield from (_missing(by_key[key][0].id, by_key[key][0].path) for key in by_key if key in absent)
        return
    for key, blob in store.get_many(by_key):
        if blob is None:
            yield _missing(by_key[key][0].id, by_key[key][0].path)
            continue
        looked_at.bytes += len(blob.data)
        for wanted in by_key[key]:
            yield from _unpacked(wanted, blob.data)


def _unpacked(wanted: Wanted, stored: bytes) -> Generator[Problem, None, bytes | None]:
    try:
        return unpacked(wanted.id, stored, wanted.compression, wanted.size)
    except BadHash as error:
        yield Problem("bad_hash", f"{error.message}{_of(wanted.path)}", wanted.path)
    except BadFormat as error:
        yield Problem("bad_content", f"object {wanted.id}{_of(wanted.path)}: {error.message}", wanted.path)
    return None


def _missing(object_id: ObjectId, path: bytes | None) -> Problem:
    return Problem("missing_object", f"object {object_id}{_of(path)} is not in the store", path)


def _of(path: bytes | None) -> str:
    return "" if path is None else f" of {paths.display(path)}"
