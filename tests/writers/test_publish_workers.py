"""Publishing with several processes: requests, what is remembered, memory, interruptions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tarfile
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest

from stratus.costs.meter import Meter
from stratus.formats import records
from stratus.formats.receipt import Receipt
from stratus.formats.records import Collection
from stratus.ingest.sources import open_source
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.stores.directory import DirectoryStore
from stratus.stores.s3 import S3Store
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, forecast, publish, remove
from tests.crash.processes import BEFORE, Machine, assert_whole
from tests.repositories import FQRN, content, keys, new_repository, problems, put, writer

LAYOUT = Layout(FQRN)


def archive(files: dict[str, bytes], directory: Path) -> Path:
    file = directory / "archive.tar"
    with tarfile.open(file, "w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, BytesIO(data))
    return file


def files(count: int, start: int = 0) -> dict[str, bytes]:
    return {f"{number % 17}/{number}": b"%d" % number * 100 for number in range(start, start + count)}


def put_archive(store: Store, file: Path, path: bytes = b"/sw", cache: Path | None = None, workers: int = 2) -> Receipt:
    remembering = DirectWriter(store, FQRN, keys(), "tester", cache)
    return publish(remembering, FQRN, path, [open_source(file)], "tester", Options(workers=workers))


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return new_repository(DirectoryStore(tmp_path / "store"))
    s3: S3Store = request.getfixturevalue("s3_store")
    return new_repository(s3)


# -- requests --------------------------------------------------------------------------------------------------------


def test_requests_of_other_processes_are_counted_and_foreseen(store: Store, tmp_path: Path) -> None:
    some = files(250) | {"copy": b"0" * 100, "large": random.Random(1).randbytes(3 << 20)}
    file = archive(some, tmp_path)
    predicted = forecast(DirectWriter(store, FQRN, keys(), "tester"), FQRN, b"/sw", [open_source(file)], "tester")
    meter = Meter()
    receipt = put_archive(store.observed(meter), file)
    assert receipt.objects.new == 251
    assert receipt.requests == predicted.requests == meter.requests
    assert (receipt.requests.put, receipt.requests.head) == (251 + 12, 1)
    assert receipt.bytes == predicted.bytes
    assert problems(store, data=True) == []
    assert content(store)["sw/large"] == some["large"]


# -- what is remembered ----------------------------------------------------------------------------------------------


def test_what_was_stored_before_is_neither_packed_nor_looked_for_again(store: Store, tmp_path: Path) -> None:
    file = archive(files(250), tmp_path)
    first = put_archive(store, file, b"/one", tmp_path / "cache")
    second = put_archive(store, file, b"/two", tmp_path / "cache")
    assert (second.objects.new, second.objects.present) == (0, 250)
    assert (second.bytes.plain, second.bytes.stored) == (first.bytes.plain, first.bytes.stored)
    assert second.bytes.uploaded == 0
    assert second.requests.put == 12
    assert problems(store, data=True) == []


def test_a_new_epoch_of_garbage_collection_makes_it_forget(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path / "store"))
    file = archive(files(10), tmp_path)
    put_archive(store, file, b"/one", tmp_path / "cache", 0)
    remove(writer(store), FQRN, b"/one", "tester", recursive=True)
    assert put_archive(store, file, b"/two", tmp_path / "cache", 0).objects.present == 10
    remove(writer(store), FQRN, b"/two", "tester", recursive=True)
    store.put(LAYOUT.collection, records.pack(Collection(n=1)))
    store.delete([stat.key for stat in store.list(f"{FQRN}/data/") if not stat.key[-1].isupper()])
    assert put_archive(store, file, b"/three", tmp_path / "cache", 0).objects.new == 10
    assert content(store)["three/0/0"] == files(1)["0/0"]


def test_a_repository_that_was_made_anew_remembers_nothing(tmp_path: Path) -> None:
    file = archive(files(10), tmp_path)
    for _ in range(2):
        store = DirectoryStore(tmp_path / "store")
        new_repository(store)
        receipt = put_archive(store, file, b"/one", tmp_path / "cache", 0)
        assert receipt.objects.new == 10
        assert problems(store, data=True) == []
        store.delete([stat.key for stat in store.list("")])


def test_a_store_that_was_put_back_is_not_trusted_to_have_what_came_later(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path / "store"))
    before = {stat.key: store.get(stat.key).data for stat in store.list("")}
    file = archive(files(10), tmp_path)
    put_archive(store, file, b"/one", tmp_path / "cache", 0)
    store.delete([stat.key for stat in store.list("")])
    for key, data in before.items():
        store.put(key, data)
    receipt = put_archive(store, file, b"/one", tmp_path / "cache", 0)
    assert receipt.objects.new == 10
    assert problems(store, data=True) == []


def test_a_damaged_file_of_what_is_remembered_does_no_harm(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path / "store"))
    file = archive(files(10), tmp_path)
    put_archive(store, file, b"/one", tmp_path / "cache", 0)
    (remembered,) = (tmp_path / "cache" / "stored").iterdir()
    remembered.write_bytes(b"SQLite format 3\0" + os.urandom(8000))
    assert put_archive(store, file, b"/two", tmp_path / "cache", 0).state == "published"
    assert problems(store, data=True) == []


# -- memory and interruptions ----------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peak(pid: int) -> int:
    """The highest resident memory so far, in kB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), default=0)


def test_memory_is_bounded_whatever_is_published(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path / "store"))
    machine = Machine.of(tmp_path, store)
    block = random.Random(1).randbytes(1 << 20)
    with (tmp_path / "source" / "large").open("wb") as file:
        for number in range(300):
            file.write(b"%d" % number + block)
    peaks: dict[int, int] = {}
    with machine.start("publish", FQRN, machine.source, "--workers", "2", "--json") as process:
        while process.poll() is None:
            for pid in (process.pid, *children(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0), peak(pid))
            time.sleep(0.02)
        process.communicate()
    assert process.returncode == 0
    assert len(peaks) == 3
    assert sum(peaks.values()) < 512 << 10


def test_an_interrupt_ends_all_processes_and_publishes_nothing(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path / "store"))
    put(store, BEFORE)
    machine = Machine.of(tmp_path, store)
    data = archive(files(400), tmp_path).read_bytes()
    with machine.start("publish", FQRN, "-", "--workers", "2", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feeding = threading.Thread(target=_feed, args=(process.stdin, data[: len(data) // 2 // 512 * 512]))
        feeding.start()
        feeding.join()
        patience = time.monotonic() + 60
        while len(workers := children(process.pid)) < 2 and time.monotonic() < patience:
            time.sleep(0.02)
        assert len(workers) == 2
        for pid in (*workers, process.pid):  # as a terminal does
            os.kill(pid, signal.SIGINT)
        assert process.wait(30) == 130
        process.stdin.close()
    patience = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not assert_whole(store, BEFORE | {"never": b""})


def _feed(pipe: object, data: bytes) -> None:
    pipe.write(data)  # type: ignore[attr-defined]
    pipe.flush()  # type: ignore[attr-defined]
