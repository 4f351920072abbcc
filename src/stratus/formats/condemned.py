"""Lists of condemned objects: what a sweep is going to delete, in 256 shards by the first byte of the hash.

Text, one object a line as ``<hash><letter>``, sorted. A shard of which nothing is condemned is there and empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from stratus.formats.hashes import ObjectId


def shard_of(object_id: ObjectId) -> str:
    """The shard that an object would be in: two hexadecimal digits."""
    return object_id.digest.hex[:2]


def pack(objects: Iterable[ObjectId]) -> bytes:
    """The shard of these objects."""
    return "".join(f"{name}\n" for name in sorted(map(str, objects))).encode()


def among(shard: bytes, objects: Iterable[ObjectId]) -> set[ObjectId]:
    """Those of the objects that the shard lists."""
    names = set(shard.decode("ascii", "replace").split())
    return {object_id for object_id in objects if str(object_id) in names}
