"""Three writers' change sets that wait in the queue, and a committer in a process of its own that may die of them.

Usage: ``python -m tests.crash.committing URL KEYS MODE``; it commits once and says how many requests that took.
MODE: ``plain``; ``steal`` says that it is ready, and takes the lock, whoever has it, once a line comes on standard
input; ``pause`` stops itself before it signs the manifest; or the id of a change set that it dies of.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import astuple

from stratus.commit import locking
from stratus.commit.committing import Committed, Committer, commit
from stratus.commit.folding import NewRevision, RepositoryTree, Revised
from stratus.commit.locking import IsGone
from stratus.commit.receipts import find_receipt
from stratus.commit.submitting import Submitted, submit
from stratus.costs.meter import Meter
from stratus.errors import Rejected
from stratus.formats import change_file
from stratus.formats.catalog import Nested
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.manifest import Manifest
from stratus.formats.outcomes import Outcome
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.formats.trusted import verify_manifest
from stratus.leases import process_mark
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Store
from stratus.stores.dying import VARIABLE
from stratus.stores.flows import Flow
from stratus.stores.opening import open_store
from stratus.trust.keys import RepositoryKeys
from tests.repositories import FQRN, content, keys, problems, reader

LAYOUT = Layout(FQRN)
NAMES = ("w1", "w2", "w3")
AFTER: dict[str, bytes | None] = {
    path: data for name in NAMES for path, data in ((name, None), (f"{name}/file", name.encode()))
}


# -- writers ---------------------------------------------------------------------------------------------------------


def submit_all(store: Store) -> list[str]:
    """The ids of three change sets that wait, each a file in a directory of its own."""
    return [flows.run(_submit(name.encode()), store) for name in NAMES]


def _submit(name: bytes) -> Flow[str]:
    epoch = Epoch(0, "quiet")
    held = yield from acquire(LAYOUT, Wish(b"/" + name, "writer", "host", "secret"), epoch)
    stored = Compression.ZLIB.pack(name)
    digest = Algorithm.SHA1.digest(stored)
    yield from flows.put(LAYOUT.object(ObjectId(digest)), stored, ABSENT)
    file = Entry(b"/%b/file" % name, Kind.FILE, 0o644, 0, 0, len(name), 0, content=Content(Algorithm.SHA1, digest))
    change_set = ChangeSet(held.claim.id, FQRN, b"/" + name, (Put(file),), (ObjectId(digest),))
    assert isinstance((yield from submit(LAYOUT, held, change_file.pack(change_set), None, epoch)), Submitted)
    return held.claim.id


# -- what must be true in the end ------------------------------------------------------------------------------------


def receipts(store: Store) -> dict[str, Receipt]:
    """All there are."""
    found = {}
    for stat in store.list(LAYOUT.receipt("")):
        receipt = flows.run(find_receipt(LAYOUT, stat.key.rpartition("/")[2]), store)
        assert receipt is not None
        found[receipt.id] = receipt
    return found


def assert_published(store: Store, change_sets: Sequence[str], before: int = 1) -> None:
    """Each once, with one receipt, and nothing else is left; ``before`` is the revision that they were put upon."""
    found = receipts(store)
    assert {key: receipt.state for key, receipt in found.items()} == dict.fromkeys(change_sets, "published")
    assert content(store) == AFTER
    assert_tidy(store)
    folded = _folded(store)
    assert Counter(key for keys in folded.values() for key in keys) == dict.fromkeys(change_sets, 1)
    assert {key: receipt.revision for key, receipt in found.items()} == {
        key: revision for revision, keys in folded.items() for key in keys
    }
    assert reader(store).manifest.revision <= before + len(change_sets)


def assert_tidy(store: Store) -> None:
    assert problems(store, data=True) == []
    assert [stat.key for kind in (LAYOUT.lease(""), LAYOUT.queue()) for stat in store.list(kind)] == []
    assert not flows.run(locking.look(LAYOUT), store).lock.held


def _folded(store: Store) -> dict[int, list[str]]:
    """The change sets of each revision, as its root catalog says."""
    manifest, found = reader(store).manifest, {}
    at: Nested | None = Nested(b"", manifest.root, manifest.root_size)
    while at is not None:
        with flows.run(tree(keys()).load(at), store) as root:
            named = root.get_property("stratus.change_set")
            if named:
                found[root.revision] = named.split(", ")
            at = None if root.previous is None else Nested(b"", root.previous, 0)
    return found


# -- committers ------------------------------------------------------------------------------------------------------


def tree(own: RepositoryKeys, before_signing: Callable[[], None] = lambda: None) -> RepositoryTree:
    def sign(manifest: Manifest) -> bytes:
        before_signing()
        return own.sign_manifest(manifest)

    return RepositoryTree(LAYOUT, Settings(), lambda data: verify_manifest(data, own.certificate, FQRN), sign, Recent())


class DeadlyTree(RepositoryTree, frozen=True):
    """Folding one of the change sets kills the process."""

    deadly: str = ""

    def fold(
        self, head: Revised, batch: Sequence[ChangeSet], kept: Mapping[str, Outcome], rejected: Mapping[str, Rejected]
    ) -> Flow[NewRevision]:
        if self.deadly in {change_set.id for change_set in batch}:
            os.kill(os.getpid(), signal.SIGKILL)
        return RepositoryTree.fold(self, head, batch, kept, rejected)


def commit_here(store: Store) -> Committed:
    """Commits in this process; whoever has the lock counts as dead."""
    seen = flows.run(locking.look(LAYOUT), store)
    return flows.run(commit(Committer(LAYOUT, tree(keys()), "here", lambda _: True), seen), store)


@dataclass(frozen=True, slots=True)
class Committers:
    """Starts committers on one store; ``environment`` has what opens it."""

    store: Store
    keys: Path
    environment: Mapping[str, str]

    def start(self, mode: str = "plain", die_at: str = "") -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.committing", self.store.url, str(self.keys), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.environment, VARIABLE: die_at},
            cwd=Path(__file__).parents[2],
        )

    def run(self, mode: str = "plain", die_at: str = "") -> int:
        """The exit code."""
        with self.start(mode, die_at) as process:
            process.communicate(timeout=60)
        return process.returncode


def main(url: str, own: Path, mode: str) -> None:
    meter = Meter()
    store = open_store(url).observed(meter)
    mark = process_mark.this_process()
    repository_keys = RepositoryKeys.load(own, FQRN)
    is_gone: IsGone = process_mark.has_ended
    made = tree(repository_keys)
    match mode:
        case "steal":
            print("ready", flush=True)
            sys.stdin.readline()
            is_gone = _everybody
        case "pause":
            made = tree(repository_keys, lambda: os.kill(os.getpid(), signal.SIGSTOP))
        case deadly if deadly != "plain":
            made = DeadlyTree(made.layout, made.settings, made.verify, made.sign, deadly=deadly)
    seen = flows.run(locking.look(LAYOUT), store)
    if seen.is_free(store.now(), is_gone):
        flows.run(commit(Committer(LAYOUT, made, mark, is_gone), seen), store)
    print(sum(astuple(meter.requests)))


def _everybody(_: str) -> bool:
    return True


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
