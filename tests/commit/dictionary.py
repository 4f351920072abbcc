"""A repository whose tree is a dictionary, so that the real protocol runs without catalogs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from stratus.errors import Changed, Rejected, Unknown
from stratus.formats import records
from stratus.formats.changes import ChangeSet
from stratus.formats.outcomes import Outcome
from stratus.formats.records import Collection, Lock
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Match, Version
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore

LAYOUT = Layout("test.example.org")


@dataclass(frozen=True, slots=True)
class Pointer:
    root: str
    version: Version


@dataclass(frozen=True, slots=True)
class Revision:
    """``content``: by path, the change sets that wrote there; ``log``: all that were folded, in order."""

    version: Version
    root: str
    revision: int
    content: Mapping[str, Sequence[str]]
    log: Sequence[str]
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class DictionaryTree:
    """``bad`` says which change sets it rejects; ``prepared`` is what a committer who keeps sub trees has of them."""

    bad: Callable[[str], bool] = lambda _: False
    prepared: dict[str, list[str]] | None = None

    def pointer(self) -> Flow[Pointer]:
        blob = yield from flows.get(LAYOUT.manifest)
        return Pointer(blob.data.decode(), blob.version)

    def head(self, pointer: Pointer) -> Flow[Revision]:
        blob = yield from flows.get(f"{LAYOUT.fqrn}/data/{pointer.root}")
        return parse(blob.data, pointer)

    def work_off(self, head: Revision, change_set: ChangeSet, pause: Callable[[], bool]) -> Flow[bool]:
        yield from flows.now()
        return True

    def fold(
        self, head: Revision, batch: Sequence[ChangeSet], kept: Mapping[str, Outcome], rejected: Mapping[str, Rejected]
    ) -> Flow[Folded]:
        yield from flows.now()
        errors = dict(rejected)
        content = {path: list(names) for path, names in head.content.items()}
        log = list(head.log)
        decided = {key: Outcome("rejected", error.reason, head.revision + 1) for key, error in rejected.items()}
        for change_set in batch:
            if self.bad(change_set.id):
                errors[change_set.id] = Rejected("bad", reason="bad")
                decided[change_set.id] = Outcome("rejected", "bad", head.revision + 1)
                continue
            path = change_set.path.decode()
            below = [*content.get(path, []), change_set.id]
            if self.prepared is not None:
                below = self.prepared.setdefault(change_set.id, below)
            content[path] = below
            log.append(change_set.id)
            decided[change_set.id] = Outcome("published", "", head.revision + 1)
        all_outcomes = {**kept, **decided}
        root = json.dumps(
            {
                "revision": head.revision + 1,
                "content": content,
                "log": log,
                "outcomes": msgspec.to_builtins(all_outcomes),
            }
        )
        return Folded(head, root.encode(), decided, errors)


@dataclass(frozen=True, slots=True)
class Folded:
    head: Revision
    data: bytes
    outcomes: Mapping[str, Outcome]
    errors: Mapping[str, Rejected]
    warnings: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        return f"{hash(self.data) & (1 << 64) - 1:016x}"

    def store(self) -> Flow[None]:
        yield from flows.put(f"{LAYOUT.fqrn}/data/{self.name}", self.data)

    def advance(self) -> Flow[Revision]:
        data = self.name.encode()
        prepared = yield from flows.prepare_put(LAYOUT.manifest, data, Match(self.head.version))
        try:
            version = yield from flows.send(prepared)
        except Unknown as error:
            found = yield from flows.find(LAYOUT.manifest)
            if found is None or found.data != data:
                raise Changed("lost") from error
            version = found.version
        return parse(self.data, Pointer(self.name, version))


def parse(data: bytes, pointer: Pointer) -> Revision:
    value = json.loads(data)
    outcomes = msgspec.convert(value["outcomes"], dict[str, Outcome])
    return Revision(pointer.version, pointer.root, value["revision"], value["content"], value["log"], outcomes)


def new_repository(store: MemoryStore) -> None:
    """The first revision, an empty queue, a free lock."""
    root = json.dumps({"revision": 1, "content": {}, "log": [], "outcomes": {}})
    store.put(f"{LAYOUT.fqrn}/data/first", root.encode())
    store.put(LAYOUT.manifest, b"first")
    store.put(LAYOUT.lock, records.pack(Lock()))
    store.put(LAYOUT.collection, records.pack(Collection()))


def newest(store: MemoryStore) -> Revision:
    blob = store.get(LAYOUT.manifest)
    pointer = Pointer(blob.data.decode(), blob.version)
    return parse(store.get(f"{LAYOUT.fqrn}/data/{pointer.root}").data, pointer)
