"""Change sets that are too large to be folded in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from stratus.commit import locking
from stratus.commit.committing import Budget, Committed, Committer, commit
from stratus.commit.folding import RepositoryTree
from stratus.commit.parts import Slice
from stratus.commit.submitting import submit
from stratus.formats import change_file
from stratus.formats.changes import Change, ChangeSet, Put, Remove
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.records import Settings
from stratus.formats.step import Step
from stratus.formats.trusted import verify_manifest
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from tests.repositories import FQRN, keys, new_repository, problems, put, reader

LAYOUT = Layout(FQRN)
QUIET = Epoch(0, "quiet")
EMPTY = ObjectId(Algorithm.SHA1.digest(Compression.ZLIB.pack(b"")))
FILE = Entry(b"", Kind.FILE, 0o644, 0, 0, 0, 0, content=Content(Algorithm.SHA1, EMPTY.digest))
SETTINGS = Settings(catalog_weight=1000)


def records(directories: int = 40, files: int = 100) -> list[Change]:
    """Replaces a directory that is there, adds to others, and makes some; two files of each are one."""
    found: list[Change] = [Remove(b"/sw/d00", recursive=True)]
    for directory in range(directories):
        top = b"/sw/d%02d" % directory
        found.append(Put(Entry(top, Kind.DIRECTORY, 0o755, 0, 0, 4096, 0)))
        found.append(Put(replace(FILE, path=top + b"/a", group=directory + 1)))
        found += [Put(replace(FILE, path=top + b"/f%03d" % number)) for number in range(files)]
        found.append(Put(replace(FILE, path=top + b"/z", group=directory + 1)))
    return found


@pytest.fixture
def store() -> Store:
    store = new_repository(settings=SETTINGS)
    put(store, {f"d{number:02d}/old": b"" for number in range(10)}, b"/sw")
    return store


def submitted(store: Store) -> str:
    held = flows.run(acquire(LAYOUT, Wish(b"/sw", "writer", "host", "secret"), QUIET), store)
    file = change_file.pack(ChangeSet(held.claim.id, FQRN, b"/sw", tuple(records()), (EMPTY,)))
    flows.run(submit(LAYOUT, held, file, 1, QUIET), store)
    return held.claim.id


def committed(store: Store, pause: Callable[[], bool] | None) -> Committed:
    """By a process that knows nothing of those before it."""

    def verify(data: bytes) -> Manifest:
        return verify_manifest(data, keys().certificate, FQRN)

    tree = RepositoryTree(LAYOUT, SETTINGS, verify, keys().sign_manifest)
    committer = Committer(LAYOUT, tree, "committer", budget=Budget(pause=pause, large=1))
    return flows.run(commit(committer, flows.run(locking.look(LAYOUT), store)), store)


def pausing() -> Callable[[], bool]:
    """Lets the first thousand records pass, and pauses then."""
    looks: Iterator[int] = iter(range(1_000_000))
    return lambda: next(looks) > 0


def rows(store: Store) -> list[object]:
    with reader(store).at() as revision:
        return [replace(entry, mtime_ns=0, group=min(entry.group, 1)) for entry in revision.walk()]


def test_it_is_committed_by_several_invocations_as_if_it_were_by_one(store: Store) -> None:
    whole = new_repository(settings=SETTINGS)
    put(whole, {f"d{number:02d}/old": b"" for number in range(10)}, b"/sw")
    for one in (store, whole):
        submitted(one)
    assert committed(whole, None).revisions == 1
    invocations = 0
    before = reader(store).manifest.revision
    while True:
        done = committed(store, pausing())
        invocations += 1
        if not done.more:
            break
        assert done.revisions == 0
        assert reader(store).manifest.revision == before
        assert not locking_held(store)
    assert 3 <= invocations <= 8
    assert rows(store) == rows(whole)
    assert problems(store) == problems(whole) == []
    (receipt,) = done.receipts.values()
    (other,) = committed_receipts(whole)
    assert receipt.entries == other


def committed_receipts(store: Store) -> list[object]:
    from stratus.formats.receipt import Receipt

    found = [Receipt.parse(store.get(stat.key).data) for stat in store.list(LAYOUT.receipt(""))]
    return [receipt.entries for receipt in found if receipt.path == "/sw" and receipt.writer == ""]


def locking_held(store: Store) -> bool:
    return flows.run(locking.look(LAYOUT), store).lock.held


def test_it_begins_again_when_others_moved_the_head(store: Store) -> None:
    change_set = submitted(store)
    assert committed(store, pausing()).more
    # Somebody who does not know of large change sets leaves this one out: as if it were not in the queue.
    (entry,) = list(store.list(LAYOUT.queue()))
    store.delete([entry.key])
    put(store, {"x": b"x"}, b"/other")
    store.put(entry.key, b"{}")
    while (done := committed(store, pausing())).more:
        pass
    assert done.receipts[change_set].state == "published"
    assert {b"/other/x", b"/sw/d39/f099"} <= {entry.path for entry in reader(store).at().walk()}
    assert problems(store) == []


def test_its_checkpoint_is_ended_with_it(store: Store) -> None:
    change_set = submitted(store)
    committed(store, pausing())
    assert Step.parse(store.get(LAYOUT.step("commit", change_set)).data).due is not None
    while committed(store, pausing()).more:
        pass
    assert Step.parse(store.get(LAYOUT.step("commit", change_set)).data).due is None


def test_it_is_never_cut_where_more_hard_links_may_follow() -> None:
    some = Slice(ChangeSet("", FQRN, b"/sw", records(directories=3, files=2000)), 0, lambda: True)
    assert list(some) == []
    looks = iter(range(1_000_000))
    some = Slice(some.change_set, 0, lambda: next(looks) > 0)
    taken = list(some)
    assert not some.finished
    last = taken[-1]
    assert isinstance(last, Put)
    assert last.entry.path == b"/sw/d00/z"
