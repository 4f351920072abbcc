"""Reads sources the way a writer does, in this process, and checks what every read must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stratus.formats.compression import Packing
from stratus.formats.entries import Entry
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.ingest.contract import Draft, NewObject, Packed, Placement, Policy, Source
from stratus.ingest.pipeline import Pipeline

POLICY = Policy(Algorithm.SHA1, Packing.UPSTREAM, None)
TOP = Placement(b"")


@dataclass(slots=True)
class Kept:
    """A delivery that keeps the objects here; each may come once."""

    objects: dict[ObjectId, NewObject] = field(default_factory=dict)
    anywhere: bool = False

    def uploader(self, objects: Sequence[NewObject]) -> int:
        for one in objects:
            assert one.id not in self.objects
            self.objects[one.id] = one
        return len(objects)

    def recall(self, keys: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes | None]:
        return [None] * len(keys)

    def wanted(self, objects: Sequence[Packed]) -> list[int]:
        return list(range(len(objects)))

    def sent(self, objects: Sequence[Packed], report: int) -> None:
        assert report == len(objects)

    def keep(self, objects: Sequence[NewObject]) -> None:
        self.uploader(objects)


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
    """Everything in ``source``; objects are named by what is stored and come once."""
    result = Result()
    kept = Kept()
    drafts: list[Draft] = []
    with Pipeline(policy, kept, result.warnings.append) as pipeline:
        for draft in source.scan(placement, result.warnings.append):
            assert draft.path == placement.path or draft.path.startswith(placement.path + b"/")
            if draft.body is not None and all(draft.body is not known.body for known in drafts):
                pipeline.add(draft.path, draft.body)
            drafts.append(draft)
        pipeline.finish()
    result.objects = kept.objects
    for draft in drafts:
        entry = draft.entry()
        assert entry.content is None or result.objects.keys() >= set(entry.content.objects())
        result.entries[entry.path] = entry
        result.order.append(entry.path)
    for name, new in result.objects.items():
        assert name.digest == policy.algorithm.digest(new.stored)
    return result
