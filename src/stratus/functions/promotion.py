"""What was staged comes to its place: only after its bytes were compared with its name, and just these bytes.

Nothing is copied inside the store: what is there may be replaced after it was looked at. An object is deleted from
``staging/`` once it is in ``data/``, so that whoever goes on sees what is left; everything may be done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from stratus.errors import NotFound, Rejected
from stratus.formats.hashes import ObjectId
from stratus.repository.layout import Layout
from stratus.stores.contract import Item, Store
from stratus.stores.parallel import WORKERS, each

_AT_ONCE = 256  # objects
_NAMED = 10  # objects in a message


class _Staged(msgspec.Struct, frozen=True):
    key: str
    size: int
    object: ObjectId


def promote(
    lease: str,
    listed: Iterable[ObjectId],
    store: Store,
    layout: Layout,
    largest: int,
    enough: Callable[[], bool],
) -> tuple[int, bool]:
    """How many of the objects listed were brought to their places, and whether those were all that were staged.

    Not more than ``largest`` bytes are held at once. Raises Rejected.
    """
    names = {layout.staged(lease, str(one)): one for one in listed}
    found = store.list(layout.staged(lease, ""))
    staged = [_Staged(stat.key, stat.size, names[stat.key]) for stat in found if stat.key in names]
    moved = 0
    for some in _batches(staged, largest):
        _move(some, store, layout)
        moved += len(some)
        if enough():
            break
    return moved, moved == len(staged)


def _batches(staged: Iterable[_Staged], largest: int) -> Iterator[list[_Staged]]:
    batch: list[_Staged] = []
    size = 0
    for one in staged:
        if one.size > largest:
            raise Rejected(
                f"the object {one.object} has {one.size} bytes, {largest} can be looked at",
                reason="too_heavy",
                hint="have the repository cut files in smaller chunks, or give the function more memory",
            )
        if batch and (size + one.size > largest or len(batch) >= _AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _move(some: Iterable[_Staged], store: Store, layout: Layout) -> None:
    def read(one: _Staged) -> tuple[_Staged, bytes | None]:
        try:
            return one, store.get(one.key, (0, one.size)).data
        except NotFound:
            return one, None  # somebody else has moved it

    items: list[Item] = []
    wrong: list[str] = []
    for one, data in each(read, some, WORKERS):
        if data is None:
            continue
        if one.object.digest.algorithm.digest(data) == one.object.digest:
            items.append(Item(layout.object(one.object), data))
        else:
            wrong.append(str(one.object))
    if wrong:
        raise Rejected(
            f"{len(wrong)} objects are not what their names say: {', '.join(sorted(wrong)[:_NAMED])}",
            reason="objects_damaged",
            hint="upload them again, and submit again",
        )
    for _ in store.put_many(items):
        pass
    store.delete([one.key for one in some])
