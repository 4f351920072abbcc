"""Reads sources the way a writer does, and checks what every read must keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from stratus.formats.compression import Compression
from stratus.formats.entries import Entry
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.ingest.contract import NewObject, Placement, Policy, Source

POLICY = Policy(Algorithm.SHA1, Compression.ZLIB, None)
TOP = Placement(b"")


@dataclass(slots=True)
class Result:
    """What a source gave: entries as the consumer would have them in the end, and in the order that they came."""

    objects: dict[ObjectId, NewObject] = field(default_factory=dict)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    order: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def plain(self, path: bytes) -> bytes:
        """The bytes of a file."""
        content = self.entries[path].content
        assert content is not None
        return b"".join(content.compression.unpack(self.objects[name].stored) for name in content.objects())


def read(source: Source, placement: Placement = TOP, policy: Policy = POLICY) -> Result:
    """Everything in ``source``: objects, named by what is stored, come once and before the entries that name them."""
    result = Result()
    for item in source.read(policy, placement, result.warnings.append):
        if isinstance(item, NewObject):
            assert item.id not in result.objects
            assert item.id.digest == policy.algorithm.digest(item.stored)
            result.objects[item.id] = item
        else:
            assert item.path == placement.path or item.path.startswith(placement.path + b"/")
            assert item.content is None or result.objects.keys() >= set(item.content.objects())
            result.entries[item.path] = item
            result.order.append(item.path)
    return result
