"""Worlds: one repository whose tree is a dictionary, who acts in it, and what must hold in it at every moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from stratus.commit import locking
from stratus.commit.committing import Committer, commit
from stratus.commit.receipts import find_receipt
from stratus.commit.submitting import Submitted, submit
from stratus.errors import Busy, Changed, LeaseHeld, LeaseLost, NotFound, Unknown
from stratus.formats import change_file, paths
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Claim, Epoch
from stratus.formats.receipt import Receipt
from stratus.leases import acquiring, holding, waiting
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.stores import flows
from stratus.stores.contract import Exchange
from stratus.stores.flows import Flow
from stratus.stores.memory import MemoryStore
from stratus.testing.explorer import Process, SimulatedClock, Simulation
from tests.commit.dictionary import LAYOUT, DictionaryTree, new_repository, newest

QUIET = Epoch(0, "quiet")
Start = Callable[[], Flow[Any]]


def seed_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, which decide who of two contenders stays, are as random as Hypothesis wants them."""
    for module in (acquiring, waiting):
        monkeypatch.setattr(module, "new_id", lambda: "".join(random.choices("abcdefghij", k=20)))


# -- who acts --------------------------------------------------------------------------------------------------------


def committer(tree: DictionaryTree = DictionaryTree(), owner: str = "someone") -> Committer[Any, Any]:
    return Committer(LAYOUT, tree, owner)


def packed(key: str, path: bytes, base: int | None = None, message: str = "") -> bytes:
    """A change set, that is told from others of the same lease by its message."""
    return change_file.pack(ChangeSet(key, LAYOUT.fqrn, path, (), base=base, message=message))


def writer(path: bytes, key: str, tree: DictionaryTree = DictionaryTree(), commits: bool = True) -> Start:
    """Leases, submits, commits if nobody else does; its result is the receipt, if it has seen one."""

    def start() -> Flow[Receipt | None]:
        held = yield from acquire(LAYOUT, Wish(path, "writer", "host", key), QUIET, 1, key)
        return (yield from submitter(held, path, tree, commits))

    return start


def submitter(held: Held, path: bytes, tree: DictionaryTree, commits: bool = True) -> Flow[Receipt | None]:
    file = packed(held.claim.id, path)
    while True:
        try:
            submitted = yield from submit(LAYOUT, held, file, 1, QUIET)
            break
        except Unknown:
            continue
    if isinstance(submitted, Submitted) and commits:
        yield from commit_if_free(committer(tree))
    return submitted if isinstance(submitted, Receipt) else (yield from find_receipt(LAYOUT, held.claim.id))


def commit_if_free(who: Committer[Any, Any]) -> Flow[None]:
    seen = yield from locking.look(LAYOUT)
    if seen.is_free((yield from flows.now()), who.is_gone):
        yield from commit(who, seen)


def only_commits(tree: DictionaryTree = DictionaryTree()) -> Start:
    return lambda: commit_if_free(committer(tree))


def time_passes(clock: SimulatedClock, then: Start) -> Start:
    """A process before whose second request every claim and lock that did not move has expired."""

    def start() -> Flow[Any]:
        yield from flows.find("nothing")
        clock.advance(400)
        return (yield from then())

    return start


def expire_claims() -> Flow[None]:
    """Ends the open claims that have expired, as is done every minute."""
    now = yield from flows.now()
    for prefix in (LAYOUT.lease(""), LAYOUT.pathless("")):
        for stat in (yield from flows.list_keys(prefix)):
            blob = yield from flows.find(stat.key)
            claim = None if blob is None else Claim.parse(blob.data)
            if blob is not None and claim is not None and holding.is_expired(claim, blob, now):
                yield from holding.end(LAYOUT, Held(claim, blob.version), "expired")


# -- what must hold --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class World:
    """A repository, and what has been seen of it.

    Attributes:
        label: what is run, for messages.
        sealed: SHA-256 of what was submitted, by claim that was ever seen sealed.
        log: the change sets that the newest revision has folded, in order.
    """

    clock: SimulatedClock = field(default_factory=SimulatedClock)
    label: object = ""
    store: MemoryStore = field(init=False)
    sealed: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    _written: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock).observed(self._see)
        new_repository(self.store)

    def _see(self, exchange: Exchange) -> None:
        if exchange.verb == "put" and exchange.status == 200:
            self._written.append(exchange.key)

    def check(self) -> None:
        """What must hold after each request."""
        for key in self._written:
            if key == LAYOUT.manifest:
                self._check_revision()
            elif key.startswith((LAYOUT.lease(""), LAYOUT.pathless(""))):
                self._check_claims()
        self._written.clear()

    def _check_revision(self) -> None:
        head = newest(self.store)
        log = list(head.log)
        assert len(set(log)) == len(log), (self.label, "folded twice", log)
        assert log[: len(self.log)] == self.log, (self.label, "what was published is gone", log)
        self.log = log
        written = [name for names in head.content.values() for name in names]
        assert sorted(written) == sorted(log), (self.label, "what was published is overwritten", head.content)
        for name, outcome in head.outcomes.items():
            assert (outcome.state == "published") == (name in log), (self.label, "an outcome lies", name)

    def _check_claims(self) -> None:
        claims = self.claims("sealed")
        for claim in claims:
            assert claim.seal is not None
            digest = self.sealed.setdefault(claim.id, claim.seal.digest)
            assert digest == claim.seal.digest, (self.label, "sealed again, with something else", claim.id)
        decided = self.receipts() if len(claims) > 1 else {}
        leased = [holding.path_of(claim) for claim in claims if claim.path is not None and claim.id not in decided]
        for index, path in enumerate(leased):
            for other in leased[:index]:
                overlap = paths.contains(path, other) or paths.contains(other, path)
                assert not overlap, (self.label, "sealed both", path, other)

    def claims(self, state: str) -> list[Claim]:
        stats = [*self.store.list(LAYOUT.lease("")), *self.store.list(LAYOUT.pathless(""))]
        found = (Claim.parse(self.store.get(stat.key).data) for stat in stats)
        return [claim for claim in found if claim.state == state]

    def receipts(self) -> dict[str, Receipt]:
        prefix = LAYOUT.receipt("")
        found = [Receipt.parse(self.store.get(stat.key).data) for stat in self.store.list(prefix)]
        return {receipt.id: receipt for receipt in found}

    def recover(self) -> None:
        """What always happens: time passes, claims and locks expire, somebody commits; twice, for good measure."""
        for _ in range(2):
            self.clock.advance(8000)
            for start in (expire_claims, only_commits()):
                self.drive(start())
            self.check()

    def drive(self, flow: Flow[Any]) -> Process:
        """Runs a flow to its end, alone."""
        simulation = Simulation(self.store, self.clock)
        process = simulation.start(flow)
        while not process.ended:
            simulation.step(process)
        return process

    def check_end(self) -> None:
        """What must hold once nobody does anything any more."""
        assert not self.claims("sealed"), (self.label, "a sealed claim stays for ever")
        assert not list(self.store.list(LAYOUT.queue())), (self.label, "the queue is not empty")
        receipts = self.receipts()
        for name in {*self.log, *self.sealed, *receipts}:
            assert name in receipts, (self.label, "decided without a receipt", name)
            published = receipts[name].state == "published"
            assert published == (name in self.log), (self.label, "a receipt lies", receipts[name])
        for name in self.sealed:
            error = receipts[name].error
            assert error is None or error.code != "lease_lost", (self.label, "sealed, and said to be lost", name)


def check_told(world: World, processes: Sequence[Process], *, faulty: bool) -> None:
    """What the processes were told, at the end."""
    for process in processes:
        if isinstance(process.error, LeaseLost):
            assert not any(key in str(process.error) for key in world.log), (world.label, "told that it was lost")
        allowed = (LeaseHeld, LeaseLost, Busy, Unknown, Changed, NotFound)
        assert process.error is None or isinstance(process.error, allowed) or faulty, process.error
