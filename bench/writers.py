"""Many writers at once: each leases a directory of its own, stores 20 small files, submits, and waits for its receipt.

They run as tasks of a few processes on a SeaweedFS of this machine, and one more process commits; who is done takes the
next directory, and what is published while all are at work counts. Beside it stands what the same processes reach when
they only store objects, before and after, for about as long together: of that, the change sets that it would carry if
every one took its files and the protocol's own puts, and nothing else. Each number of writers has a store of its own,
five times; the round whose share is the median is shown. A filled queue is committed too, by one process alone. Then
the same writers in a simulated cloud: 30 ms for a request, S3's limits, some requests refused; and how many requests
come one after the other for one file.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeVar

from bench.measuring import machine, print_table, rounded, write_results
from bench.repositories import FQRN
from bench.tasks import run_tasks
from stratus.commit import locking
from stratus.commit.committing import Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.locking import SeenLock
from stratus.commit.queue import list_queue
from stratus.commit.receipts import find_receipt, pauses
from stratus.commit.submitting import Submitted, submit
from stratus.errors import StoreError, StratusError, Unknown
from stratus.formats import change_file
from stratus.formats.changes import ChangeSet, Put, new_id
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.creation import create
from stratus.repository.head import read_pointer
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.repository.repository import Repository
from stratus.stores import flows
from stratus.stores.contract import Item, Store
from stratus.stores.flows import Flow
from stratus.testing.cloud import Cloud, Limits, run, run_all
from stratus.testing.s3_server import LocalS3
from stratus.trust.keys import RepositoryKeys

T = TypeVar("T")

WRITERS = (1, 10, 100, 500)
QUICK_WRITERS = (1, 4)
ROUNDS = 5
PUBLISHES = 2_000  # for each number of writers: as often as each of them would 30 times, at most
LEAST = 8  # times as many as there are writers
QUEUED = (100, 500)
QUICK_QUEUED = (8,)
FILES = 20
PUTS = FILES + 5  # claim, change set, queue entry, seal and receipt besides
PROCESSES = 2
_QUIET = Epoch(0, "quiet")
_LAYOUT = Layout(FQRN)
_TRIES, _FIRST_PAUSE = 8, 0.1  # of a request whose answer was lost; seconds, doubled each time
_IDLE = 0.05  # seconds until a committer looks again


@dataclass(frozen=True, slots=True)
class Many:
    """Writers that publish at the same time: seconds from the wish for a lease to the receipt, change sets a second.

    Attributes:
        end_to_end_per_s: while all are at work.
        puts_per_s: that the store takes from the same processes, beside nothing else; ``share`` is how much of what
            this would carry was reached.
        shares: of all rounds, the lowest first.
        trouble: what went wrong first, if anything.
    """

    writers: int
    publishes: int
    p50_s: float
    p95_s: float
    p99_s: float
    failed: int
    revisions: int
    end_to_end_per_s: float
    puts_per_s: float
    share: float
    shares: tuple[float, ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """A filled queue that one process committed."""

    change_sets: int
    revisions: int
    seconds: float
    cpu: float
    folded_per_s: float


@dataclass(frozen=True, slots=True)
class Steps:
    """One file published alone: requests one after the other, and in all."""

    name: str
    visible: int
    receipt: int
    whole: int
    requests: int


@dataclass(frozen=True, slots=True)
class Ended:
    """One publish: when it began, by some clock, and how many seconds it took; ``trouble`` if it failed."""

    begun: float
    seconds: float
    trouble: str = ""


# -- what a writer and a committer do --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Party:
    """What the writers of one process, or its committer, have in common."""

    keys: RepositoryKeys
    clock: Callable[[], float] = time.monotonic
    recent: Recent = field(default_factory=Recent)

    def verify(self, data: bytes) -> Manifest:
        return verify_manifest(data, self.keys.certificate, FQRN)

    def submit(self, path: bytes, count: int = FILES) -> Flow[tuple[str, SeenLock]]:
        """Leases, stores files, submits; gives the id of the change set, and the lock as it was found then."""
        wish = Wish(path, "bench", "host", "secret")
        held = yield from _surely(lambda: acquire(_LAYOUT, wish, _QUIET))
        pointer = yield from read_pointer(_LAYOUT, self.verify)
        files = _files(path, count)
        yield from _store(files)
        changes = tuple(Put(entry) for entry, _ in files)
        objects = tuple(_id(entry) for entry, _ in files)
        change_set = ChangeSet(held.claim.id, FQRN, path, changes, objects, pointer.manifest.revision, "bench")
        file = change_file.pack(change_set)
        submitted = yield from _surely(lambda: submit(_LAYOUT, held, file, change_set.base, _QUIET))
        assert isinstance(submitted, Submitted)
        return change_set.id, submitted.lock

    def write(self, paths: Iterator[bytes]) -> Flow[list[Ended]]:
        """What one writer does: publishes into one directory after another, as long as there are any left."""
        ended = []
        for path in paths:
            begun, trouble = self.clock(), ""
            try:
                receipt = yield from self.publish(path)
                if receipt.error is not None:
                    trouble = f"rejected: {receipt.error}"
            except StratusError as error:
                trouble = str(error)
            ended.append(Ended(begun, self.clock() - begun, trouble))
        return ended

    def publish(self, path: bytes) -> Flow[Receipt]:
        begun = self.clock()
        change_set, _ = yield from self.submit(path)
        for pause in pauses(self.clock() - begun):
            yield from flows.sleep(pause)
            receipt = yield from find_receipt(_LAYOUT, change_set)
            if receipt is not None:
                return receipt
        raise AssertionError

    def store_only(self) -> Flow[None]:
        yield from _store(_files(b"", FILES))

    def commit(self, seen: SeenLock) -> Flow[int]:
        """Gives how many revisions it made."""
        tree = RepositoryTree(_LAYOUT, Settings(), self.verify, self.keys.sign_manifest, self.recent)
        committer = Committer(_LAYOUT, tree, "bench", lambda _: True)
        return (yield from commit(committer, seen)).revisions

    def commit_until(self, is_over: Callable[[], bool]) -> Flow[int]:
        revisions = 0
        while not is_over():
            with contextlib.suppress(StoreError):  # the next round goes on from there
                if (yield from list_queue(_LAYOUT)):
                    revisions += yield from self.commit((yield from locking.look(_LAYOUT)))
            yield from flows.sleep(_IDLE)
        return revisions


def _files(path: bytes, count: int) -> list[tuple[Entry, bytes]]:
    """Small files with content that nobody has stored before, and what is stored of them."""
    found = []
    for number in range(count):
        plain = new_id().encode() + b"# a line of a script\n" * 20
        stored = Compression.ZLIB.pack(plain)
        content = Content(Algorithm.SHA1, Algorithm.SHA1.digest(stored))
        found.append((Entry(path + b"/f%02d" % number, Kind.FILE, 0o644, 0, 0, len(plain), 0, content=content), stored))
    return found


def _id(entry: Entry) -> ObjectId:
    assert entry.content is not None
    assert entry.content.digest is not None
    return ObjectId(entry.content.digest)


def _store(files: Iterable[tuple[Entry, bytes]]) -> Flow[None]:
    yield from flows.put_many([Item(_LAYOUT.object(_id(entry)), stored) for entry, stored in files])


def _surely(begin: Callable[[], Flow[T]]) -> Flow[T]:
    """Again while the answer is lost."""
    for attempt in range(_TRIES):
        with contextlib.suppress(Unknown):
            return (yield from begin())
        yield from flows.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))
    return (yield from begin())


# -- processes on a real store ---------------------------------------------------------------------------------------


class _Here:
    """What a process keeps from one round to the next."""

    store: Store
    party: Party
    over: Event


def _begin(open_store: Callable[[], Store], keys: Path, over: Event) -> None:
    _Here.store, _Here.party, _Here.over = open_store(), Party(RepositoryKeys.load(keys, FQRN)), over


def _write(part: tuple[int, Sequence[bytes]]) -> list[Ended]:
    """So many writers, who share the directories: all are at work until there are none left."""
    writers, directories = part
    left = iter(directories)
    ended: list[list[Ended]] = run_tasks([_Here.party.write(left) for _ in range(writers)], _Here.store)
    return _flat(ended)


def _submit(part: tuple[int, Sequence[bytes]]) -> list[Ended]:
    run_tasks([_Here.party.submit(path) for path in part[1]], _Here.store)
    return []


def _store_only(count: int) -> list[Ended]:
    begun = time.monotonic()
    run_tasks([_Here.party.store_only() for _ in range(count)], _Here.store)
    return [Ended(begun, time.monotonic() - begun)]


def _commit() -> int:
    """Until ``over`` is set; gives how many revisions that made."""
    return flows.run(_Here.party.commit_until(_Here.over.is_set), _Here.store)


def _commit_all() -> Folded:
    waiting = len(flows.run(list_queue(_LAYOUT), _Here.store))
    begun, cpu = time.monotonic(), time.process_time()
    seen = flows.run(locking.look(_LAYOUT), _Here.store)
    revisions = flows.run(_Here.party.commit(seen), _Here.store)
    seconds = time.monotonic() - begun
    return Folded(waiting, revisions, seconds, time.process_time() - cpu, waiting / seconds)


@dataclass(slots=True)
class Hall:
    """The processes of all writers, and the committer's."""

    writers: ProcessPoolExecutor
    committer: ProcessPoolExecutor
    over: Event
    dealt: int = 0

    def all(self, action: Callable[[Any], list[Ended]], parts: Sequence[Any]) -> list[list[Ended]]:
        """What each process gives."""
        return list(self.writers.map(action, parts))

    def parts(self, writers: int, publishes: int) -> list[tuple[int, list[bytes]]]:
        """So many writers, and new directories for so many publishes, dealt out to the processes."""
        processes = min(PROCESSES, writers)
        dealt = [self._path() for _ in range(publishes)]
        return [(len(range(number, writers, processes)), dealt[number::processes]) for number in range(processes)]

    def _path(self) -> bytes:
        """The next directory; in no order, as people name theirs, and not as time goes by."""
        self.dealt += 1
        return b"/w%05d" % (self.dealt * 61_803 % 100_003)

    def measure(self, writers: int, publishes: int) -> Many:
        """Writers that begin together, and publish so often in all; before and after, puts alone."""
        before = self.puts(publishes // 2)
        self.over.clear()
        committing = self.committer.submit(_commit)
        ended = self.all(_write, self.parts(writers, publishes))
        self.over.set()
        revisions = committing.result()
        return _many(writers, ended, revisions, (before + self.puts(publishes // 2)) / 2)

    def puts(self, change_sets: int) -> float:
        """Objects stored in a second, by nothing but puts."""
        each = max(change_sets // PROCESSES, 1)
        return FILES * each * PROCESSES / _wall(_flat(self.all(_store_only, [each] * PROCESSES)))

    def fold(self, change_sets: int) -> Folded:
        self.all(_submit, self.parts(change_sets, change_sets))
        return self.committer.submit(_commit_all).result()


@contextlib.contextmanager
def _hall() -> Iterator[Hall]:
    """Processes that are warm, with a store and a repository that are new."""
    with tempfile.TemporaryDirectory() as work, LocalS3() as server:
        server.create_bucket("bench")
        store = server.store("bench")
        keys = RepositoryKeys.generate(FQRN)
        keys.save(Path(work) / "keys")
        create(store, FQRN, keys, Settings())
        context = multiprocessing.get_context("spawn")
        over = context.Event()
        common = (store.elsewhere(), Path(work) / "keys", over)
        with (
            ProcessPoolExecutor(PROCESSES, context, _begin, common) as writers,
            ProcessPoolExecutor(1, context, _begin, common) as committer,
        ):
            hall = Hall(writers, committer, over)
            try:
                hall.measure(2 * PROCESSES, 2 * PROCESSES)
                yield hall
            finally:
                over.set()
        with Repository(store, FQRN, [keys.public_key]).at() as revision:
            published = sum(entry.kind is Kind.FILE for entry in revision.walk())
        assert published == hall.dealt * FILES, "change sets are missing, or were published in part"


def _flat(ended: Sequence[Sequence[Ended]]) -> list[Ended]:
    return list(itertools.chain(*ended))


def _wall(ended: Sequence[Ended]) -> float:
    return max(one.begun + one.seconds for one in ended) - min(one.begun for one in ended)


def _speed(writers: int, by_process: Sequence[Sequence[Ended]]) -> float:
    """Published in a second while all are at work: once each has published, until a process has nothing left to begin.

    Before, they work and nothing is published yet. Where nobody publishes twice, the whole time counts.
    """
    ended = _flat(by_process)
    done = sorted(one.begun + one.seconds for one in ended if not one.trouble)
    first = done[writers - 1] if len(done) >= writers else math.inf
    last = min(max(one.begun for one in part) for part in by_process)
    if last <= first:
        return len(done) / _wall(ended)
    return sum(first < moment <= last for moment in done) / (last - first)


def _many(writers: int, by_process: Sequence[Sequence[Ended]], revisions: int, puts: float) -> Many:
    speed, ended = _speed(writers, by_process), _flat(by_process)
    trouble = [one.trouble for one in ended if one.trouble]
    seconds = [one.seconds for one in ended if not one.trouble] or [0.0]
    return Many(
        writers,
        len(ended),
        _percentile(seconds, 0.5),
        _percentile(seconds, 0.95),
        _percentile(seconds, 0.99),
        len(trouble),
        revisions,
        speed,
        puts,
        speed / (puts / PUTS),
        trouble="".join(trouble[:1]),
    )


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def writing(count: int, publishes: int, rounds: int) -> Many:
    """What so many writers got: of the rounds, the one whose share of the puts is the median."""
    measured = []
    for _ in range(rounds):
        with _hall() as hall:
            measured.append(hall.measure(count, publishes))
    measured.sort(key=lambda one: one.share)
    return replace(measured[len(measured) // 2], shares=tuple(one.share for one in measured))


def folding(queued: Sequence[int]) -> list[Folded]:
    """What the committer did."""
    with _hall() as hall:
        return [hall.fold(count) for count in queued]


# -- the simulated cloud ---------------------------------------------------------------------------------------------


def in_a_cloud(count: int, failing: float) -> Many:
    """The same in simulated time; what the flows themselves compute is added to it."""
    keys = RepositoryKeys.generate(FQRN)
    cloud = Cloud(failing=failing, seed=count, computing=time.process_time)
    create(cloud.store, FQRN, keys, Settings())
    writers = Party(keys, lambda: cloud.clock().timestamp())
    left = count

    def write(number: int) -> Flow[list[Ended]]:
        nonlocal left
        ended = yield from writers.write(iter([b"/w%05d" % number]))
        left -= 1
        return ended

    *wrote, committed = run_all([*map(write, range(count)), Party(keys).commit_until(lambda: left == 0)], cloud)
    return _many(count, [ran.value() for ran in wrote], committed.value(), Limits().writes)


def steps() -> list[Steps]:
    """One file, by a process that has published nothing before, and once it has."""
    keys = RepositoryKeys.generate(FQRN)
    cloud, party, found = Cloud(), Party(keys), []
    create(cloud.store, FQRN, keys, Settings())
    for name in ("cold", "warm"):
        submitted = run(party.submit(b"/" + name.encode(), 1), cloud)
        change_set, seen = submitted.value()
        committed = run(party.commit(seen), cloud)
        receipt = committed.until("put", _LAYOUT.receipt(change_set))
        found.append(
            Steps(
                name,
                len(submitted.steps) + committed.until("put", _LAYOUT.manifest),
                len(submitted.steps) + receipt,
                len(submitted.steps) + len(committed.steps),
                submitted.requests + committed.requests,
            )
        )
    return found


# -- the report ------------------------------------------------------------------------------------------------------


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    quick = parser.parse_args(words).quick
    counts, queued, rounds = (QUICK_WRITERS, QUICK_QUEUED, 1) if quick else (WRITERS, QUEUED, ROUNDS)
    of = machine()
    alone = steps()
    print_table(
        "one file in a simulated cloud: requests one after the other until it is visible, has a receipt, all is done",
        ("process", "visible", "receipt", "done", "requests (all)"),
        [(one.name, one.visible, one.receipt, one.whole, one.requests) for one in alone],
    )
    many = [writing(count, count if quick else _publishes(count), rounds) for count in counts]
    _print(f"writers on SeaweedFS; a change set is {PUTS} puts", many)
    folded = folding(queued)
    print_table(
        "a queue that was filled before, committed by one process",
        ("change sets", "revisions", "s", "CPU s", "folded/s"),
        [(one.change_sets, one.revisions, *map(rounded, (one.seconds, one.cpu, one.folded_per_s))) for one in folded],
    )
    clouds = [in_a_cloud(count, failing) for failing in (0.0, 0.01) for count in counts]
    _print("writers in a simulated cloud, then one that refuses 1 of 100 requests", clouds)
    found = {"files": FILES, "puts": PUTS, "writers": many, "folded": folded, "cloud": clouds, "steps": alone}
    return write_results("writers", of, found)


def _publishes(writers: int) -> int:
    return max(min(PUBLISHES, 30 * writers), LEAST * writers)


def _print(title: str, many: Sequence[Many]) -> None:
    print_table(
        title,
        (
            *("writers", "publishes", "p50 s", "p95 s", "p99 s"),
            *("failed", "revisions", "done/s", "puts/s", "of puts", "rounds"),
        ),
        [
            (
                *(one.writers, one.publishes, *map(rounded, (one.p50_s, one.p95_s, one.p99_s))),
                *(one.failed, one.revisions, *map(rounded, (one.end_to_end_per_s, one.puts_per_s, one.share))),
                " ".join(f"{share:.2f}" for share in one.shares),
            )
            for one in many
        ],
    )
    for one in many:
        if one.trouble:
            print(f"{one.writers} writers: {one.trouble}")


if __name__ == "__main__":
    main()
