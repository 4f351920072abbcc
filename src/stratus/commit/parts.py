"""How far a change set has come that is too large to be folded in one go.

A part is a root catalog that nobody has published: the head's tree with the first records of the change set applied.
It is good for as long as the head stays the same; who commits next goes on from there, in whatever process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from stratus.errors import BadFormat
from stratus.formats import paths, typed
from stratus.formats.changes import Change, ChangeSet, Put, Remove, Tag, Untag
from stratus.formats.step import Step
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow

KIND = "commit"
_ASKED = 1000  # records between two looks at the time
_DUE = timedelta(seconds=60)


class Part(msgspec.Struct, frozen=True):
    """How far it has come.

    Attributes:
        on: the root catalog of the head, as text, that the records are applied to.
        root: what has come of it so far, with ``size`` bytes of its SQLite file.
        position: records that are applied.
        counts: entries added, changed and removed by them.
        finished: those are all.
    """

    on: str
    root: str
    size: int
    position: int = 0
    counts: tuple[int, int, int] = (0, 0, 0)
    finished: bool = False


def read_part(layout: Layout, change_set: str) -> Flow[Part | None]:
    """The checkpoint of a change set, if it has one."""
    blob = yield from flows.find(layout.step(KIND, change_set))
    if blob is None:
        return None
    try:
        return typed.convert(Step.parse(blob.data).body, Part)
    except (BadFormat, msgspec.ValidationError):
        return None


def write_part(layout: Layout, change_set: str, part: Part, now: datetime) -> Flow[None]:
    """Keeps it, and has somebody go on if nobody does."""
    body: dict[str, Any] = msgspec.to_builtins(part)
    step = Step(kind=KIND, id=change_set, due=now + _DUE, body=body)
    yield from flows.put(layout.step(KIND, change_set), step.pack())


def end_part(layout: Layout, change_set: str) -> Flow[None]:
    """It is decided: nothing goes on, whoever tidies up removes it."""
    yield from flows.put(layout.step(KIND, change_set), Step(kind=KIND, id=change_set).pack())


class Slice(msgspec.Struct):
    """The records of a change set from a position on, up to where they may be cut once ``pause`` says so.

    They are not cut while a directory is open in which hard links were seen: others of the group may follow.
    """

    change_set: ChangeSet
    position: int
    pause: Callable[[], bool]
    linked: set[bytes] = msgspec.field(default_factory=set)
    finished: bool = False

    def __iter__(self) -> Iterator[Change]:
        pausing = False
        for change in islice(iter(self.change_set.changes), self.position, None):
            path = _path_of(change)
            pausing = pausing or (self.position % _ASKED == 0 and self.pause())
            if pausing and self._may_be_cut(path):
                return
            if isinstance(change, Put) and change.entry.group:
                self.linked.add(paths.parent(path))
            self.position += 1
            yield change
        self.finished = True

    def _may_be_cut(self, path: bytes) -> bool:
        self.linked = {directory for directory in self.linked if paths.contains(directory, path)}
        return not self.linked


def _path_of(change: Change) -> bytes:
    match change:
        case Remove(path):
            return path
        case Tag() | Untag():
            return b""
        case _:
            return change.entry.path
