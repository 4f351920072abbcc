"""Committing: folds what waits in the queue into new revisions, and gives every change set its one receipt.

The swap of the manifest is the only decision, for published and rejected alike. The root catalog carries the outcome
of every change set whose queue entry may still be there, so a repeated round sees what has landed. Two committers, or
ten, are safe; the lock saves them the work. The order matters: the manifest is read before the queue is listed, and a
receipt is written before the claim goes, and that before the queue entry. See ``docs/protocol.md``.

How change sets are folded into a tree is passed in (``Tree``), so that this runs without catalogs, too.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import astuple

from stratus.commit import locking
from stratus.commit.locking import IsGone, SeenLock
from stratus.commit.queue import Queued, list_queue
from stratus.commit.receipts import Effort, make_receipt, write_receipts
from stratus.errors import BadFormat, Changed, Rejected, StoreError, StratusError
from stratus.formats import change_file, paths
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Claim
from stratus.formats.outcomes import Outcome
from stratus.formats.receipt import Receipt, Requests
from stratus.formats.records import Collection
from stratus.repository.collection import condemned_since, read_collection
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Blob
from stratus.stores.flows import Flow

P = TypeVar("P")
T = TypeVar("T")
H = TypeVar("H", bound="Base")
H_co = TypeVar("H_co", bound="Base", covariant=True)

_ATTEMPTS = 20  # rounds in a row that are lost to others
_LONGEST_PAUSE = 2.0  # seconds between two of them
_FEW_OUTCOMES = 32
_DELETED_AT_ONCE = 5  # keys
_REMEMBERED = 10_000  # receipts that this process knows to be there
_BYTES_PER_SECOND = 500_000  # of packed change sets, that are folded on a slow machine


class Base(Protocol):
    """A revision that the next one is folded upon."""

    @property
    def revision(self) -> int: ...
    @property
    def root(self) -> str:
        """The hash of its root."""

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """What became of change sets that may still be in the queue."""


class Fold(Protocol[H_co]):
    """A new revision that is ready to be stored.

    Attributes:
        outcomes: of the batch.
        errors: why some of it were rejected.
    """

    @property
    def outcomes(self) -> Mapping[str, Outcome]: ...
    @property
    def errors(self) -> Mapping[str, Rejected]: ...
    @property
    def warnings(self) -> Sequence[str]: ...
    def store(self) -> Flow[None]:
        """Stores all that the revision names and the store lacks."""

    def advance(self) -> Flow[H_co]:
        """Makes it the newest revision. Raises Changed if somebody else was faster."""


class Tree(Protocol[P, H]):
    """What is committed to."""

    def pointer(self) -> Flow[P]:
        """Reads what names the newest revision."""

    def head(self, pointer: P) -> Flow[H]:
        """Reads the revision that it names."""

    def work_off(self, head: H, change_set: ChangeSet, pause: Callable[[], bool]) -> Flow[bool]:
        """Applies a part of a large change set, until ``pause`` says so; whether what is left fits into a fold."""

    def fold(
        self, head: H, batch: Sequence[ChangeSet], kept: Mapping[str, Outcome], rejected: Mapping[str, Rejected]
    ) -> Flow[Fold[H]]:
        """Applies the batch; ``kept`` are outcomes to be carried on, ``rejected`` are to get one without being applied.

        What cannot be applied is rejected, without harm to the others.
        """


class Budget(msgspec.Struct, frozen=True):
    """How much one round takes on.

    Attributes:
        bytes: of change sets, as packed.
        over: ends a commit between two rounds.
        pause: where time is short, whether a change set of ``large`` bytes and more has to go on another time; such
            a one is worked off alone.
    """

    change_sets: int = 500
    bytes: int = 256 << 20
    over: Callable[[], bool] = lambda: False
    pause: Callable[[], bool] | None = None
    large: int = 2 << 20


class Committer(msgspec.Struct, Generic[P, H], frozen=True):
    """Who commits.

    Attributes:
        owner: the mark of this process in the lock.
        is_gone: knows other processes that have ended.
        spent: the requests made so far, by this process.
        receipts: change sets whose receipt this process knows to be there.
    """

    layout: Layout
    tree: Tree[P, H]
    owner: str
    is_gone: IsGone = lambda _: False
    spent: Callable[[], Requests] = Requests
    budget: Budget = Budget()
    gb: float = 0.0
    receipts: dict[str, None] = msgspec.field(default_factory=dict)


class Committed(msgspec.Struct):
    """What a commit did: the receipts that it made, by change set, and what may be done next.

    Attributes:
        revisions: how many it made.
        more: change sets wait that this commit did not get to.
        trouble: why something after the swap could not be done; the next commit does it.
    """

    receipts: dict[str, Receipt] = msgspec.field(default_factory=dict)
    revisions: int = 0
    more: bool = False
    trouble: str = ""


def commit(committer: Committer[P, H], seen: SeenLock) -> Flow[Committed]:
    """Takes the lock, which was seen free, and commits until nothing waits or the budget is used up.

    Does nothing if somebody else took the lock. Raises StoreError, Untrusted; the next commit goes on from there.
    """
    done = Committed()
    free: SeenLock | None = seen
    while free is not None:
        try:
            free = yield from _hold(committer, free, done)
        except StratusError as error:
            if not done.receipts:
                raise
            done.trouble = f"the commit was not finished: {error}"
            return done
    return done


def _hold(committer: Committer[P, H], seen: SeenLock, done: Committed) -> Flow[SeenLock | None]:
    """Takes the lock, commits, and gives the lock up; the lock if it has to be taken again."""
    begun = yield from _Begun.now(committer)
    held, pointer = yield from flows.both(
        locking.take(committer.layout, seen, committer.owner), _or_error(committer.tree.pointer())
    )
    if held is None:
        return None
    working = _Working(committer, held, done, begun)
    try:
        if isinstance(pointer, StratusError):
            raise pointer
        yield from working.rounds(pointer)
    except _LockLost:
        return None
    except _Paused:
        done.more = True
    except StratusError:
        with contextlib.suppress(StoreError):
            yield from locking.free(committer.layout, working.lock)
        raise
    yield from locking.free(committer.layout, working.lock)
    return None if done.more else (yield from working.look_again())


def _or_error(flow: Flow[T]) -> Flow[T | StratusError]:
    try:
        return (yield from flow)
    except StratusError as error:
        return error


class _LockLost(Exception):
    pass


class _Paused(Exception):
    """The time is used up in the middle of a change set."""


class _Begun(msgspec.Struct, frozen=True):
    """When something began, by the store's clock, and what had been spent then."""

    time: datetime
    requests: Requests

    @classmethod
    def now(cls, committer: Committer[P, H]) -> Flow[_Begun]:
        return cls((yield from flows.now()), committer.spent())


class _Sealed(msgspec.Struct):
    """A change set that is to be folded."""

    queued: Queued
    gc: int
    since: datetime
    size: int
    change_set: ChangeSet


class _Batch(msgspec.Struct):
    """What the queue says, sorted out.

    Attributes:
        fold: sealed ones.
        known: change sets whose outcome is in the head, as far as they could be read.
        rejected: sealed ones that cannot be folded.
        over: those with a receipt, of which only entries and claims are left.
        never: those that were never sealed.
    """

    fold: list[_Sealed] = msgspec.field(default_factory=list)
    known: dict[str, ChangeSet | None] = msgspec.field(default_factory=dict)
    rejected: dict[str, Rejected] = msgspec.field(default_factory=dict)
    over: list[Queued] = msgspec.field(default_factory=list)
    never: list[Queued] = msgspec.field(default_factory=list)


class _Finished(msgspec.Struct, frozen=True):
    """What has its receipt; a claim that was never sealed is left to whoever tidies up."""

    sealed: list[Queued]
    never: list[Queued]


class _Working(msgspec.Struct, Generic[P, H]):
    """One holder of the lock at work."""

    committer: Committer[P, H]
    lock: SeenLock
    done: Committed
    begun: _Begun
    unsealed: set[str] = msgspec.field(default_factory=set)  # when they were looked at
    passed: set[str] = msgspec.field(default_factory=set)  # finished with, or left to a later commit
    lost: int = 0

    # -- rounds ------------------------------------------------------------------------------------------------------

    def rounds(self, pointer: P) -> Flow[None]:
        """Until nothing waits that could be decided, or the budget is used up. Raises _LockLost."""
        queue, head = yield from flows.both(list_queue(self.layout), self.committer.tree.head(pointer))
        while self._new(queue):
            try:
                head, finished = yield from self._round(head, queue)
            except Changed:
                # Everything that was read before is dropped, the queue too.
                yield from self._pause()
                pointer = yield from self.committer.tree.pointer()
                queue, head = yield from flows.both(list_queue(self.layout), self.committer.tree.head(pointer))
                continue
            self.lost = 0
            # The head was made, or read, before the queue is listed again.
            queue = yield from self._tidy(finished)
            if self._new(queue) and self.committer.budget.over():
                self.done.more = True
                return
            self.begun = yield from _Begun.now(self.committer)

    def _pause(self) -> Flow[None]:
        self.lost += 1
        if self.lost >= _ATTEMPTS:
            raise Changed(
                f"others write to {self.layout.fqrn} all the time without looking at the lock",
                hint="only one committer is needed",
            )
        yield from flows.sleep(random.uniform(0, min(0.05 * 2**self.lost, _LONGEST_PAUSE)))

    @property
    def layout(self) -> Layout:
        return self.committer.layout

    def _new(self, queue: Iterable[Queued]) -> list[Queued]:
        return [queued for queued in queue if queued.id not in self.unsealed | self.passed]

    def _round(self, head: H, queue: list[Queued]) -> Flow[tuple[H, _Finished]]:
        """One revision, if anything is to be decided; gives the newest head and what is finished with."""
        chosen, too_heavy = self._choose(queue)
        batch = yield from self._read(head, queue, chosen, too_heavy)
        receipts: list[Receipt] = []
        yield from self._work_off(head, batch)
        if batch.fold or batch.rejected:
            kept = yield from self._kept(head, queue)
            fold, new = yield from self._publish(head, batch, kept)
            if fold is not None and new is not None:
                head = new
                self.done.revisions += 1
                receipts += yield from self._decided(head, fold, batch)
        receipts += [self._known(head, key, change_set) for key, change_set in batch.known.items()]
        receipts += [self._never_sealed(head, queued) for queued in batch.never]
        self.done.receipts |= {receipt.id: receipt for receipt in receipts}
        try:
            there = yield from write_receipts(self.layout, receipts)
        except StoreError as error:
            self.done.trouble = f"receipts were not stored: {error}"
            self.passed |= {receipt.id for receipt in receipts}
            return head, _Finished(batch.over, [])
        self._remember(there)
        never = [queued for queued in batch.never if queued.id in there]
        decided = [queued for queued in chosen if queued.id in there and queued not in never]
        return head, _Finished([*batch.over, *decided], never)

    def _work_off(self, head: H, batch: _Batch) -> Flow[None]:
        """A large change set is worked off alone, part by part. Raises _Paused if there is more of it."""
        budget = self.committer.budget
        large = next((sealed for sealed in batch.fold if sealed.size >= budget.large), None)
        if large is None or budget.pause is None:
            return
        batch.fold = [large]
        if not (yield from self.committer.tree.work_off(head, large.change_set, budget.pause)):
            raise _Paused

    def _choose(self, queue: list[Queued]) -> tuple[list[Queued], set[str]]:
        """What this round takes on, and those of it that have killed too many committers."""
        new = self._new(queue)
        # One that was open may be sealed by now. That alone is no reason for a round, but if there is one, it is asked.
        waiting = [queued.id for queued in (*new, *(queued for queued in queue if queued.id in self.unsealed))]
        allowed, too_heavy = locking.suspects(self.lock.lock, waiting)
        chosen = set(list(allowed)[: self.committer.budget.change_sets])
        return [queued for queued in queue if queued.id in chosen], chosen if too_heavy else set()

    # -- reading what waits ------------------------------------------------------------------------------------------

    def _read(self, head: H, queue: list[Queued], chosen: list[Queued], too_heavy: set[str]) -> Flow[_Batch]:
        landed = head.outcomes
        asked: list[Flow[object]] = []
        for queued in chosen:
            asked.append(flows.find(self.layout.change_set(queued.id)))
            if queued.id not in landed:
                asked += [flows.find(queued.claim), flows.find(self.layout.receipt(queued.id))]
        noting = locking.note(self.layout, self.lock, _names(chosen), locking.TTL, _names(queue))
        noted, *found = yield from flows.together([noting, *asked])
        self._holds(noted)
        size = sum(len(blob.data) for blob in found if blob is not None)
        if size > _BYTES_PER_SECOND * locking.TTL // 4:
            seconds = locking.TTL + size // _BYTES_PER_SECOND
            self._holds((yield from locking.note(self.layout, self.lock, _names(chosen), seconds, _names(queue))))
        size = 0
        batch = _Batch()
        gone: list[Queued] = []
        for queued in chosen:
            body = found.pop(0)
            if queued.id in landed:
                batch.known[queued.id] = _parse(body)
                continue
            claim_blob, receipt = found.pop(0), found.pop(0)
            claim = None if claim_blob is None else Claim.parse(claim_blob.data)
            self.unsealed.discard(queued.id)
            if receipt is not None:
                batch.over.append(queued)
            elif claim is None or claim.state == "dead":
                gone.append(queued)
            elif claim.state == "open":
                self.unsealed.add(queued.id)
            elif queued.id in too_heavy:
                batch.rejected[queued.id] = _too_heavy()
            else:
                assert claim_blob is not None
                size += 0 if body is None else len(body.data)
                if batch.fold and size > self.committer.budget.bytes:
                    continue
                self._sort_in(batch, queued, claim, claim_blob, body)
        if gone:
            receipts = yield from flows.together([flows.find(self.layout.receipt(queued.id)) for queued in gone])
            for queued, late in zip(gone, receipts, strict=True):
                (batch.never if late is None else batch.over).append(queued)
        batch.fold.sort(key=lambda sealed: paths.components(sealed.change_set.path))
        return batch

    def _holds(self, noted: SeenLock | None) -> None:
        if noted is None:
            raise _LockLost
        self.lock = noted

    @staticmethod
    def _sort_in(batch: _Batch, queued: Queued, claim: Claim, blob: Blob, body: Blob | None) -> None:
        sealing = claim.seal
        change_set = _parse(body)
        if body is None or change_set is None or sealing is None or sealing.digest != change_file.digest(body.data):
            batch.rejected[queued.id] = Rejected(
                "the change set that was sealed is not there, or cannot be read",
                reason="bad_change_set",
                hint="publish again",
            )
            return
        batch.fold.append(_Sealed(queued, claim.gc.n, blob.modified, len(body.data), change_set))

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _kept(self, head: H, queue: Sequence[Queued]) -> Flow[dict[str, Outcome]]:
        """The outcomes that the next revision carries on: those whose entry is there, or whose receipt is not.

        A few more do no harm, and save looking for their receipts.
        """
        waiting = _names(queue)
        landed = head.outcomes
        if len(landed) <= _FEW_OUTCOMES:
            return dict(landed)
        unsure = [key for key in landed if key not in waiting and key not in self.committer.receipts]
        unanswered = yield from flows.missing(map(self.layout.receipt, unsure)) if unsure else _nothing()
        return {
            key: outcome for key, outcome in landed.items() if key in waiting or self.layout.receipt(key) in unanswered
        }

    def _publish(self, head: H, batch: _Batch, kept: Mapping[str, Outcome]) -> Flow[tuple[Fold[H] | None, H | None]]:
        """Folds, stores and swaps; nothing if all that waits has to wait for the collection. Raises Changed."""
        while batch.fold or batch.rejected:
            fold = yield from self.committer.tree.fold(
                head, [sealed.change_set for sealed in batch.fold], kept, batch.rejected
            )
            _, collection = yield from flows.both(fold.store(), read_collection(self.layout))
            if not (yield from self._collected(batch, collection)):
                return fold, (yield from fold.advance())
        return None, None

    def _collected(self, batch: _Batch, collection: Collection) -> Flow[bool]:
        """Whether change sets had to be taken out of the batch, since objects of theirs were condemned."""
        changed = False
        for sealed in [sealed for sealed in batch.fold if sealed.gc != collection.n]:
            objects = set(sealed.change_set.objects)
            condemned = yield from condemned_since(self.layout, collection, sealed.gc, objects)
            if condemned is not None and not condemned:
                continue
            if collection.phase == "quiet":
                asked = {self.layout.object(one) for one in (objects if condemned is None else condemned)}
                gone = yield from flows.missing(asked) if asked else _nothing()
                if not gone:
                    continue
                batch.rejected[sealed.queued.id] = Rejected(
                    f"{len(gone)} objects were collected while the change set was made",
                    reason="objects_collected",
                    hint="publish again: they are uploaded anew",
                    path=sealed.change_set.path,
                )
            else:
                self.passed.add(sealed.queued.id)
            batch.fold.remove(sealed)
            changed = True
        return changed

    # -- receipts ----------------------------------------------------------------------------------------------------

    def _decided(self, head: H, fold: Fold[H], batch: _Batch) -> Flow[list[Receipt]]:
        """The receipts of what this round decided, each with its part of what the round cost."""
        now = yield from flows.now()
        sealed = {one.queued.id: one for one in batch.fold}
        efforts = self._efforts(len(fold.outcomes), now)
        receipts = []
        for (key, outcome), effort in zip(sorted(fold.outcomes.items()), efforts, strict=True):
            one = sealed.get(key)
            receipts.append(
                make_receipt(
                    self.layout.fqrn,
                    None if one is None else one.change_set,
                    key,
                    outcome,
                    head.root,
                    error=fold.errors.get(key),
                    warnings=fold.warnings,
                    queued=0.0 if one is None else max((self.begun.time - one.since).total_seconds(), 0.0),
                    time=int(now.timestamp()),
                    effort=effort,
                )
            )
        return receipts

    def _efforts(self, count: int, now: datetime) -> list[Effort]:
        """The parts that this many change sets bear; together they are the whole."""
        spent = self.committer.spent().since(self.begun.requests)
        # What follows is known: the receipts, claims and entries that go, a look at the queue, the lock, another look.
        spent = spent.plus(Requests(put=count + 1, delete=2 * math.ceil(count / _DELETED_AT_ONCE), list=2))
        seconds = (now - self.begun.time).total_seconds()
        return [
            Effort(
                Requests(*(number // count + (index < number % count) for number in astuple(spent))),
                seconds / count,
                1,
                self.committer.gb * seconds / count,
            )
            for index in range(count)
        ]

    def _known(self, head: H, key: str, change_set: ChangeSet | None) -> Receipt:
        """The receipt of what an earlier round decided."""
        outcome = head.outcomes[key]
        root = head.root if outcome.revision == head.revision else ""
        return make_receipt(self.layout.fqrn, change_set, key, outcome, root, time=int(self.begun.time.timestamp()))

    def _never_sealed(self, head: H, queued: Queued) -> Receipt:
        outcome = Outcome("rejected", "lease_lost", head.revision)
        return make_receipt(
            self.layout.fqrn, None, queued.id, outcome, head.root, time=int(self.begun.time.timestamp())
        )

    def _remember(self, keys: Iterable[str]) -> None:
        receipts = self.committer.receipts
        receipts |= dict.fromkeys(keys)
        for key in list(receipts)[: max(len(receipts) - _REMEMBERED, 0)]:
            del receipts[key]

    # -- leaving -----------------------------------------------------------------------------------------------------

    def _tidy(self, finished: _Finished) -> Flow[list[Queued]]:
        """Removes claims, then the entries of those that are gone for certain; lists what waits then."""
        self.passed |= _names([*finished.sealed, *finished.never])
        try:
            claims = [queued.claim for queued in finished.sealed]
            gone = yield from _delete(claims)
            entries = [queued.key for queued in finished.sealed if queued.claim in gone]
            entries += [queued.key for queued in finished.never]
            _, queue = yield from flows.both(_delete(entries), list_queue(self.layout))
        except StoreError as error:
            self.done.trouble = f"claims or queue entries were not removed: {error}"
            return []
        return queue

    def look_again(self) -> Flow[SeenLock | None]:
        """After the lock was given up: whether somebody submitted who saw it held; gives the lock to take then."""
        queue = [queued for queued in (yield from list_queue(self.layout)) if queued.id not in self.passed]
        if not queue:
            return None
        seen, *blobs = yield from flows.together(
            [locking.look(self.layout), *(flows.find(queued.claim) for queued in queue)]
        )
        sealed = [blob for blob in blobs if blob is not None and Claim.parse(blob.data).state == "sealed"]
        now = yield from flows.now()
        return seen if sealed and seen.is_free(now, self.committer.is_gone) else None


def _delete(keys: Sequence[str]) -> Flow[set[str]]:
    """Those that are gone. Several requests, since servers remove the keys of one request one after the other."""
    parts = [keys[start : start + _DELETED_AT_ONCE] for start in range(0, len(keys), _DELETED_AT_ONCE)]
    return set().union(*(yield from flows.together([flows.delete(part) for part in parts])))


def _nothing() -> Flow[set[str]]:
    """No request."""
    yield from flows.together([])
    return set()


def _names(queue: Iterable[Queued]) -> set[str]:
    return {queued.id for queued in queue}


def _parse(body: Blob | None) -> ChangeSet | None:
    if body is None:
        return None
    try:
        return change_file.parse(body.data)
    except BadFormat:
        return None


def _too_heavy() -> Rejected:
    return Rejected(
        "three committers died while they folded this change set alone",
        reason="too_heavy",
        hint="publish it in smaller pieces, or give the committer more memory and time",
    )
