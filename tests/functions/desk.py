"""A repository whose functions are asked directly, with a clock that is set, and what a writer does there."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from stratus.costs.meter import Meter
from stratus.errors import NoSuchRepository, NotPermitted
from stratus.formats import change_file, messages
from stratus.formats.changes import Attach, Change, ChangeSet, Put
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.key_record import KeyRecord, Quota
from stratus.formats.messages import LeaseGranted, LeaseRequest, Problem
from stratus.formats.receipt import Receipt
from stratus.functions.contract import Caller, Context, Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from stratus.trust.identity import Identity
from stratus.trust.keys import RepositoryKeys
from stratus.trust.writer_keys import WriterKey
from stratus.upkeep.check import check
from stratus.upkeep.check_problems import Problem as Trouble
from tests.repositories import FQRN, keys, new_repository

LAYOUT = Layout(FQRN)
LOG = logging.getLogger("tests")
SECONDS = 60.0
MEMORY = 512 << 20


@dataclass(slots=True)
class Clock:
    """Stands still until it is set."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The repository's keys, with or without the master key."""

    found: RepositoryKeys

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        assert fqrn == self.found.fqrn
        return self.found

    def gateway_secret(self, fqrn: str, name: str) -> bytes:
        raise NotPermitted(f"there is no secret of {name} for {fqrn}")


@dataclass(slots=True)
class Desk:
    """The functions of one repository."""

    clock: Clock
    store: Store
    caller: Caller
    seconds: float = SECONDS
    keys: RepositoryKeys = field(default_factory=keys)

    def context(self, store: Store | None = None) -> Context:
        meter = Meter()
        used = (self.store if store is None else store).observed(meter)

        def stores(fqrn: str) -> Store:
            if fqrn != FQRN:
                raise NoSuchRepository(f"there is no {fqrn}")
            return used

        recent = Recent()
        return Context(
            stores,
            OwnKeys(self.keys),
            time.monotonic() + self.seconds,
            MEMORY,
            LOG,
            meter,
            "tests",
            recent=lambda _: recent,
        )

    def ask(
        self,
        kind: str,
        body: bytes = b"",
        *,
        caller: Caller | None = None,
        system: bool = False,
        store: Store | None = None,
        **parameters: Any,
    ) -> Reply:
        """The reply to a writer's event, or to one of the system."""
        who = None if system else caller or self.caller
        return dispatch(Event(kind, "event", FQRN, parameters, body, caller=who), self.context(store))

    def follow(self, reply: Reply) -> list[Reply]:
        """Runs the follow-ups of a reply, and theirs."""
        replies = []
        waiting = list(reply.follow_ups)
        while waiting:
            replies.append(dispatch(waiting.pop(0), self.context()))
            waiting += replies[-1].follow_ups
        return replies

    def copy(self) -> Desk:
        """Another one that is at the same point."""
        assert isinstance(self.store, MemoryStore)
        clock = Clock(self.clock.now)
        store = MemoryStore(clock=clock)
        store._contents.held |= self.store._contents.held
        store._contents.order += self.store._contents.order
        return Desk(clock, store, self.caller, self.seconds, self.keys)

    # -- what a writer does ------------------------------------------------------------------------------------------

    def lease(self, path: str | None = "/sw", **more: Any) -> LeaseGranted:
        reply = self.ask("lease.acquire", messages.pack(LeaseRequest(path=path, **more)))
        assert reply.status == 201, reply
        return messages.parse(reply.body, LeaseGranted)

    def keep(self, data: bytes) -> ObjectId:
        """Stores an object."""
        stored = Compression.ZLIB.pack(data)
        one = ObjectId(Algorithm.SHA1.digest(stored))
        self.store.put(LAYOUT.object(one), stored)
        return one

    def change_set(self, lease: LeaseGranted, files: Mapping[str, bytes], **more: Any) -> ChangeSet:
        """Files below the path of the lease; their objects are stored."""
        entries = [file(f"{lease.path}/{name}", data) for name, data in sorted(files.items())]
        for data in files.values():
            self.keep(data)
        return of_changes(lease, [Put(entry) for entry in entries], **more)

    def submit(self, lease: LeaseGranted, change_set: ChangeSet | bytes, **more: Any) -> Reply:
        body = change_set if isinstance(change_set, bytes) else change_file.pack(change_set)
        return self.ask("submit", body, **of(lease), **more)

    def publish(self, path: str, files: Mapping[str, bytes]) -> str:
        """Leases, submits, commits; gives the id."""
        lease = self.lease(path)
        reply = self.submit(lease, self.change_set(lease, files))
        assert reply.status == 202, reply
        self.follow(reply)
        return lease.id

    def receipt(self, change_set: str) -> Receipt | None:
        reply = self.ask("receipt", id=change_set)
        return Receipt.parse(reply.body) if reply.status == 200 else None

    def problems(self, data: bool = False) -> list[Trouble]:
        """What `stratus check` finds, at the time of the clock."""
        return list(check(self.store, FQRN, [self.keys.public_key], now=self.clock.now, data=data))


def of(lease: LeaseGranted) -> dict[str, Any]:
    """The parameters that say which lease."""
    path = {} if lease.path is None else {"path": lease.path}
    return {"id": lease.id, "lease": lease.token, **path}


def of_changes(lease: LeaseGranted, changes: list[Change], **more: Any) -> ChangeSet:
    """A change set of these records, which lists what they name."""
    objects: set[ObjectId] = set()
    for change in changes:
        if isinstance(change, Put) and change.entry.content is not None:
            objects.update(change.entry.content.objects())
        elif isinstance(change, Attach):
            objects.add(ObjectId(change.catalog, Suffix.CATALOG))
    fields: dict[str, Any] = {
        "id": lease.id,
        "repository": FQRN,
        "path": (lease.path or "").encode("utf-8", "surrogateescape"),
        "changes": changes,
        "objects": tuple(objects),
        "base": lease.base.revision,
        "writer": "alice",
    }
    return ChangeSet(**{**fields, **more})


def file(path: str, data: bytes) -> Entry:
    digest = Algorithm.SHA1.digest(Compression.ZLIB.pack(data))
    return Entry(path.encode(), Kind.FILE, 0o644, 0, 0, len(data), 1, content=Content(Algorithm.SHA1, digest))


def caller(store: Store, name: str = "alice", *grants: bytes) -> Caller:
    """Somebody with a new key."""
    return Caller(Identity.of_key(new_key(store, name, *grants)[1]), "127.0.0.1")


def new_key(
    store: Store, name: str = "alice", *grants: bytes, quota: Quota | None = None
) -> tuple[WriterKey, KeyRecord]:
    """A new key for these paths, by default the whole repository."""
    key = WriterKey.generate()
    made = writer_keys.create(LAYOUT, key.public_key, name, grants or (b"",), quota=quota or Quota())
    return key, flows.run(made, store)


def new_desk() -> Desk:
    clock = Clock()
    store = new_repository(MemoryStore(clock=clock))
    return Desk(clock, store, caller(store))


def problem(reply: Reply) -> Problem:
    """What a reply says went wrong."""
    assert reply.status >= 400, reply
    assert ("Content-Type", messages.PROBLEM_TYPE) in reply.headers
    found = messages.parse(reply.body, Problem)
    assert found.status == reply.status
    return found


def said(reply: Reply) -> Any:
    """The JSON of a reply that went well."""
    assert reply.status < 400, reply
    return json.loads(reply.body)
