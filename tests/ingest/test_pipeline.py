"""Several processes give what one gives, and none outlives the one that leads."""

from __future__ import annotations

import gzip
import os
import random
import signal
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stratus.errors import BadSource, StoreError, StratusError
from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Packing
from stratus.formats.entries import Entry
from stratus.formats.hashes import Algorithm
from stratus.ingest.archives import Archive
from stratus.ingest.contract import Body, File, NewObject, Packed, Placement, Policy, Source
from stratus.ingest.crew import Processes
from stratus.ingest.directories import Directory
from stratus.ingest.pipeline import Pipeline
from tests.ingest.test_archives import link, member, tar

POLICY = Policy(Algorithm.SHA1, Packing.FAST, ChunkLimits(64 << 10, 128 << 10, 256 << 10))


@dataclass(frozen=True, slots=True)
class IntoDirectory:
    """An uploader that works in any process: one file per object, named after it."""

    top: Path

    def __call__(self, objects: Sequence[NewObject]) -> list[str]:
        for one in objects:
            with (self.top / str(one.id)).open("xb") as file:  # each comes once
                file.write(one.stored)
        return [str(one.id) for one in objects]


@dataclass(frozen=True, slots=True)
class Failing:
    def __call__(self, objects: Sequence[NewObject]) -> None:
        raise StoreError("the store is full", hint="make room")


@dataclass(slots=True)
class Delivery:
    uploader: IntoDirectory | Failing
    anywhere: bool = True
    order: list[bytes] = field(default_factory=list)

    def recall(self, keys: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes | None]:
        return [None] * len(keys)

    def wanted(self, objects: Sequence[Packed]) -> list[int]:
        self.order += [one.key for one in objects]
        return list(range(len(objects)))

    def sent(self, objects: Sequence[Packed], report: list[str]) -> None:
        assert [name[:40] for name in report] == [one.digest.hex() for one in objects]

    def keep(self, objects: Sequence[NewObject]) -> None:
        self.uploader(objects)


def write_tree(top: Path) -> None:
    """Small files, a third of them equal, empty ones, links, and some that are cut."""
    rng = random.Random(1)
    for number in range(400):
        directory = top / f"{number % 13}"
        directory.mkdir(parents=True, exist_ok=True)
        content = b"same" * 500 if number % 3 == 0 else rng.randbytes(rng.randrange(3000))
        (directory / f"{number}").write_bytes(content if number % 50 else b"")
    for number in range(3):
        (top / f"large{number}").write_bytes(rng.randbytes(900_000) + bytes(600_000))
    (top / "0" / "hard").hardlink_to(top / "0" / "13")
    (top / "soft").symlink_to("0/13")
    os.mkfifo(top / "fifo")


def publish(source: Source, top: Path, workers: int) -> tuple[dict[bytes, Entry], dict[str, bytes], list[bytes]]:
    """The entries, the objects, and the keys in the order of the decisions."""
    top.mkdir()
    delivery = Delivery(IntoDirectory(top))
    drafts = {}
    seen: set[Body] = set()
    with Pipeline(POLICY, delivery, print, workers) as pipeline:
        for draft in source.scan(Placement(b""), print):
            drafts[draft.path] = draft
            if draft.body is not None and draft.body not in seen:
                seen.add(draft.body)
                pipeline.add(draft.path, draft.body)
        pipeline.finish()
    objects = {file.name: file.read_bytes() for file in top.iterdir()}
    return {path: draft.entry() for path, draft in drafts.items()}, objects, delivery.order


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    tree = tmp_path / "tree"
    write_tree(tree)
    with tarfile.open(tmp_path / "tree.tar", "w") as archive:
        archive.add(tree, ".")
    (tmp_path / "tree.tgz").write_bytes(gzip.compress((tmp_path / "tree.tar").read_bytes(), 1))
    return {
        "directory": Directory(tree),
        "archive": Archive(tmp_path / "tree.tar"),
        "compressed": Archive(tmp_path / "tree.tgz"),
    }


@pytest.mark.parametrize("kind", ["directory", "archive", "compressed"])
def test_the_outcome_does_not_depend_on_the_number_of_workers(
    kind: str, sources: dict[str, Source], tmp_path: Path
) -> None:
    here = publish(sources[kind], tmp_path / "here", 0)
    elsewhere = publish(sources[kind], tmp_path / "elsewhere", 2)
    assert here[0] == elsewhere[0]
    assert here[1] == elsewhere[1]
    assert here[2] == elsewhere[2]
    assert len(here[1]) > 250
    assert {name for entry in here[0].values() if entry.content for name in map(str, entry.content.objects())} == set(
        here[1]
    )


def test_all_kinds_of_sources_give_the_same_objects(sources: dict[str, Source], tmp_path: Path) -> None:
    found = [publish(source, tmp_path / kind, 2)[1] for kind, source in sources.items()]
    assert found[0] == found[1] == found[2]


# -- failures --------------------------------------------------------------------------------------------------------


def pids(pipeline: Pipeline) -> list[int]:
    assert isinstance(pipeline._crew, Processes)
    return pipeline._crew.processes


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def many(tmp_path: Path) -> list[tuple[bytes, Body]]:
    top = tmp_path / "many"
    top.mkdir()
    bodies = []
    for number in range(300):
        (top / f"{number}").write_bytes(b"%d" % number * 1000)
        bodies.append((b"/%d" % number, Body(File(os.fsencode(top / f"{number}")), 3000)))
    return bodies


def test_a_worker_that_is_killed_is_one_clear_error(many: list[tuple[bytes, Body]], tmp_path: Path) -> None:
    with Pipeline(POLICY, Delivery(IntoDirectory(tmp_path)), print, 2) as pipeline:
        for path, body in many:
            pipeline.add(path, body)
        first, second = pids(pipeline)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(StratusError, match="ended with signal 9; nothing was published") as caught:  # noqa: PT012
            pipeline.add(b"/more", Body(b"more" * 500_000, 2_000_000))
            pipeline.finish()
        assert caught.value.hint
    assert ended(second)


def test_an_error_in_a_worker_is_that_error_here(many: list[tuple[bytes, Body]], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the store is full") as caught:  # noqa: PT012, SIM117
        with Pipeline(POLICY, Delivery(Failing()), print, 2) as pipeline:
            for path, body in many:
                pipeline.add(path, body)
            workers = pids(pipeline)
            pipeline.finish()
    assert caught.value.hint == "make room"
    assert all(map(ended, workers))


def test_a_file_that_cannot_be_read_is_named(many: list[tuple[bytes, Body]], tmp_path: Path) -> None:
    (tmp_path / "many" / "250").unlink()
    with (  # noqa: PT012
        pytest.raises(BadSource, match="many/250 cannot be read: No such file"),
        Pipeline(POLICY, Delivery(IntoDirectory(tmp_path)), print, 2) as pipeline,
    ):
        for path, body in many:
            pipeline.add(path, body)
        pipeline.finish()


def test_few_files_are_packed_in_this_process(many: list[tuple[bytes, Body]], tmp_path: Path) -> None:
    with Pipeline(POLICY, Delivery(IntoDirectory(tmp_path)), print) as pipeline:
        for path, body in many[:100]:
            pipeline.add(path, body)
        pipeline.finish()
        assert not isinstance(pipeline._crew, Processes)


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    file.write_bytes(tar(member("a", data=b"12345"), link("b", "a"), member("c", data=b"1")))
    told: list[tuple[int, int, int | None, int | None]] = []
    with Pipeline(POLICY, Delivery(IntoDirectory(tmp_path)), print, progress=lambda *now: told.append(now)) as pipeline:
        for draft in Archive(file).scan(Placement(b""), print):
            if draft.path != b"/b" and not draft.group:
                assert draft.body is not None
                pipeline.add(draft.path, draft.body)
        pipeline.finish()
    assert told[-1] == (2, 6, 2, 6)
