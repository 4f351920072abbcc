"""The protocol against whatever Hypothesis thinks of: longer runs than the explorer's, with more of everything.

Writers and committers are flows that make one request when they are told to; requests fail, lose their answers, land
late; processes die; time passes. The rules check after every request what must hold, and in the end that everything
that was submitted got its one receipt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stratus.commit.committing import Budget, Committer
from stratus.commit.submitting import submit
from stratus.errors import LeaseLost
from stratus.formats import change_file, paths
from stratus.formats.receipt import Receipt
from stratus.leases import holding
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.leases.waiting import acquire_waiting
from stratus.stores.flows import Flow
from stratus.testing.explorer import Fault, Process, Simulation
from tests.commit.dictionary import LAYOUT, DictionaryTree
from tests.commit.worlds import QUIET, World, commit_if_free, expire_claims, packed, seed_ids

PATHS = st.sampled_from([b"", b"/a", b"/a/b", b"/a/b/c", b"/a/bc", b"/d", None])
ANY = st.integers(0, 1 << 20)


@dataclass(slots=True)
class Lease:
    """A lease that somebody was told to have.

    Attributes:
        held: the claim, as its holder has seen it last.
        seen: the change sets that were in the revision that the holder read then.
        told_lost: SHA-256 of the change sets of which was said that the lease was lost.
    """

    held: Held
    path: bytes
    base: int
    seen: frozenset[str]
    told_lost: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Running:
    """A process and its mark."""

    process: Process
    mark: str


class Machine(RuleBasedStateMachine):
    """All that may go on at one repository."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.simulation = Simulation(self.world.store, self.world.clock)
        self.running: list[Running] = []
        self.leases: list[Lease] = []
        self.gone: set[str] = set()
        self.count = 0
        self.landed = 0
        self.luck = random.Random()
        self.weather = 0.0  # how often a request fails

    # -- processes ---------------------------------------------------------------------------------------------------

    def start(self, flow: Flow[Any], mark: str) -> None:
        self.running.append(Running(self.simulation.start(flow), mark))
        self.settle()

    def settle(self) -> None:
        """Forgets what has ended."""
        self.running = [one for one in self.running if not one.process.ended]

    def mark(self) -> str:
        self.count += 1
        return f"process {self.count}"

    def step(self, one: Running) -> None:
        """One request, of which something may become that was not meant."""
        fault = self.luck.choice(list(Fault)) if self.luck.random() < self.weather else None
        self.simulation.step(one.process, fault)
        if fault in (Fault.DIE, Fault.DIE_AFTER):
            self.gone.add(one.mark)
        self.check()

    @precondition(lambda self: self.running)
    @rule(which=ANY, steps=st.integers(1, 30))
    def one_goes_on(self, which: int, steps: int) -> None:
        one = self.running[which % len(self.running)]
        for _ in range(steps):
            if not one.process.ended:
                self.step(one)
        self.settle()

    @precondition(lambda self: self.running)
    @rule(steps=st.integers(1, 15))
    def all_go_on(self, steps: int) -> None:
        for _ in range(steps):
            for one in self.running:
                self.step(one)
            self.settle()

    @precondition(lambda self: self.simulation.late)
    @rule(which=ANY)
    def a_late_request_lands(self, which: int) -> None:
        self.simulation.land(which % len(self.simulation.late))
        self.check()

    @rule(seconds=st.sampled_from([1, 30, 70, 310]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    # -- who acts ----------------------------------------------------------------------------------------------------

    @initialize(first=PATHS, second=PATHS, seed=ANY, weather=st.sampled_from([0.0, 0.01, 0.05]))
    def two_publish(self, first: bytes | None, second: bytes | None, seed: int, weather: float) -> None:
        self.luck.seed(seed)
        self.weather = weather
        self.somebody_publishes(first, 5, False)
        self.somebody_publishes(second, 5, False)

    @rule(path=PATHS, rank=st.integers(0, 9), wait=st.booleans())
    def somebody_publishes(self, path: bytes | None, rank: int, wait: bool) -> None:
        """Leases, submits and commits, in one process."""
        mark = self.mark()

        def flow() -> Flow[None]:
            lease = yield from self.leasing(path, rank, 300, wait, mark)
            yield from self.submitting(lease, packed(lease.held.claim.id, lease.path, lease.base))
            yield from commit_if_free(Committer(LAYOUT, DictionaryTree(), mark, self.gone.__contains__))

        self.start(flow(), mark)

    @rule(path=PATHS, rank=st.integers(0, 9), ttl=st.sampled_from([60, 300]))
    def somebody_wants_a_lease(self, path: bytes | None, rank: int, ttl: int) -> None:
        mark = self.mark()
        self.start(self.leasing(path, rank, ttl, False, mark), mark)

    def leasing(self, path: bytes | None, rank: int, ttl: int, wait: bool, mark: str) -> Flow[Lease]:
        wish = Wish(path, "writer", "host", "secret", ttl, request=mark, process=mark)
        if wait:
            held = yield from acquire_waiting(LAYOUT, wish, QUIET, 20, self.gone.__contains__)
        else:
            # The id decides who of two contenders stays.
            key = f"{rank}{self.count:04}".ljust(20, "x")
            held = yield from acquire(LAYOUT, wish, QUIET, 1, key, self.gone.__contains__)
        tree = DictionaryTree()
        head = yield from tree.head((yield from tree.pointer()))
        lease = Lease(held, holding.path_of(held.claim), head.revision, frozenset(head.log))
        self.leases.append(lease)
        return lease

    def submitting(self, lease: Lease, file: bytes) -> Flow[None]:
        try:
            submitted = yield from submit(LAYOUT, lease.held, file, lease.base, QUIET)
        except LeaseLost:
            lease.told_lost.add(change_file.digest(file))
            raise
        if isinstance(submitted, Receipt):
            assert submitted.id == lease.held.claim.id
            if submitted.error is not None and submitted.error.code == "lease_lost":
                lease.told_lost.add(change_file.digest(file))

    @precondition(lambda self: self.leases)
    @rule(which=ANY, what=st.sampled_from(["renews", "renews", "releases", "is broken"]))
    def a_holder(self, which: int, what: str) -> None:
        lease = self.leases[which % len(self.leases)]

        def flow() -> Flow[None]:
            if what == "releases":
                yield from holding.release(LAYOUT, lease.held)
            elif what == "renews":
                lease.held = yield from holding.renew(LAYOUT, lease.held)
            else:
                found = yield from holding.read(LAYOUT, lease.held.claim)
                if found is not None:
                    yield from holding.break_(LAYOUT, found)

        self.start(flow(), lease.held.claim.process)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, what=st.sampled_from(["the same", "the same", "the same", "another", "unreadable"]))
    def a_holder_submits(self, which: int, what: str) -> None:
        """For the first time or again, perhaps something else than before, perhaps nothing that can be read."""
        lease = self.leases[which % len(self.leases)]
        message = "another" if what == "another" else ""
        file = packed(lease.held.claim.id, lease.path, lease.base, message)
        self.start(self.submitting(lease, b"no change set" if what == "unreadable" else file), self.mark())

    @rule(rejects=st.sampled_from([0, 0, 2, 3]), change_sets=st.sampled_from([500, 1]), over=st.booleans())
    def somebody_commits(self, rejects: int, change_sets: int, over: bool) -> None:
        """Committers differ in what they reject and how much they take on."""
        tree = DictionaryTree(bad=lambda key: bool(rejects) and int(key[1:5], 36) % rejects == 0)
        mark, budget = self.mark(), Budget(change_sets, over=lambda: over)
        self.start(commit_if_free(Committer(LAYOUT, tree, mark, self.gone.__contains__, budget=budget)), mark)

    @rule()
    def somebody_tends(self) -> None:
        self.start(expire_claims(), self.mark())

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        self.world.check()
        by_id = {lease.held.claim.id: lease for lease in self.leases}
        for index in range(self.landed, len(self.world.log)):
            lease = by_id[self.world.log[index]]
            for before in self.world.log[:index]:
                other = by_id[before]
                overlap = paths.contains(lease.path, other.path) or paths.contains(other.path, lease.path)
                if overlap and None not in (lease.held.claim.path, other.held.claim.path):
                    assert before in lease.seen, ("landed over a change set that it never saw", index, before)
        self.landed = len(self.world.log)

    @invariant()
    def nothing_that_was_said_to_be_lost_is_sealed(self) -> None:
        for lease in self.leases:
            digest = self.world.sealed.get(lease.held.claim.id)
            assert digest not in lease.told_lost, ("told that it was lost", lease.held.claim.id)

    def teardown(self) -> None:
        """Everybody finishes, what is late lands, time passes, somebody commits."""
        self.weather = 0.0
        while self.running:
            self.all_go_on(1)
        while self.simulation.late:
            self.a_late_request_lands(0)
        self.world.recover()
        self.check()
        self.nothing_that_was_said_to_be_lost_is_sealed()
        self.world.check_end()


def run_machine(monkeypatch: pytest.MonkeyPatch, examples: int, steps: int) -> None:
    seed_ids(monkeypatch)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_whatever_happens_every_change_set_ends_in_one_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    run_machine(monkeypatch, 150, 60)


@pytest.mark.soak
def test_also_in_more_and_longer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    run_machine(monkeypatch, 3000, 150)
