from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratus.errors import Exists, NotFound, Refused, StoreError, Unsuitable, UsageError
from stratus.stores.contract import ABSENT, Match
from stratus.stores.directory import TEMPORARY, DirectoryStore
from stratus.testing.store_kit import StoreTests, object_key


class TestDirectoryStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "store")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_keys_are_plain_files_that_a_web_server_can_serve(store: DirectoryStore) -> None:
    old = os.umask(0o022)
    try:
        store.put(object_key(b"1"), b"1")
        store.put(".stratus/r/lock", b"{}", ABSENT)
    finally:
        os.umask(old)
    file = store.path / object_key(b"1")
    assert file.read_bytes() == b"1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


def test_what_is_private_is_for_the_owner_only(store: DirectoryStore) -> None:
    store.put(".stratus/r/lock", b"{}", ABSENT)
    for name in (".stratus", TEMPORARY):
        assert stat.S_IMODE((store.path / name).stat().st_mode) == 0o700


def test_temporary_files_are_no_keys(store: DirectoryStore) -> None:
    store.put("a", b"1", ABSENT)
    assert any((store.path / TEMPORARY).iterdir()) or store.prepare_delete(["a"])
    assert [found.key for found in store.list("")] == ["a"]
    assert list(store.list(TEMPORARY)) == []
    with pytest.raises(UsageError):
        store.get(f"{TEMPORARY}/prepared")
    with pytest.raises(UsageError):
        store.put(TEMPORARY, b"1")


def test_what_a_killed_process_left_behind_goes_after_a_while(store: DirectoryStore) -> None:
    store.put("a", b"1")
    young, old = store.path / TEMPORARY / "3" / ("0" * 32), store.path / TEMPORARY / "5" / ("1" * 32)
    for file in (young, old):
        file.touch()
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    DirectoryStore(store.path).put("b", b"1")
    assert young.exists()
    assert not old.exists()


def test_a_failed_put_leaves_nothing_behind(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    store.put("before", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            store.put("a/b", b"1")
    assert [found.key for found in store.list("")] == ["before"]
    assert not [file for file in (store.path / TEMPORARY).rglob("*") if len(file.name) == 32]


def test_no_key_may_lie_below_another(store: DirectoryStore) -> None:
    store.put("a/b/c", b"1")
    for key in ("a", "a/b", "a/b/c/d"):
        for when in (ABSENT, Match(store.get("a/b/c").version)):
            with pytest.raises((UsageError, StoreError)):
                store.put(key, b"1", when)
        with pytest.raises(UsageError):
            store.put(key, b"1")
    assert [found.key for found in store.list("")] == ["a/b/c"]


def test_directories_that_a_delete_leaves_empty_go(store: DirectoryStore) -> None:
    store.put("a/b/c", b"1")
    store.put("a/d", b"1")
    store.delete(["a/b/c"])
    assert not (store.path / "a/b").exists()
    assert (store.path / "a/d").exists()


def test_a_directory_that_is_not_there_is_an_empty_store(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "nothing")
    assert list(store.list("")) == []
    assert store.missing(["a"]) == {"a"}
    with pytest.raises(NotFound):
        store.get("a")
    store.sync()
    assert not (tmp_path / "nothing").exists()


def test_a_directory_of_a_stock_server_is_a_store(tmp_path: Path) -> None:
    key = object_key(b"1")
    (tmp_path / key).parent.mkdir(parents=True)
    (tmp_path / key).write_bytes(b"1")
    (tmp_path / os.fsdecode(b"no text \xff")).write_bytes(b"1")
    store = DirectoryStore(tmp_path)
    assert store.get(key).data == b"1"
    assert [found.key for found in store.list("")] == [key]


def test_a_listing_does_not_read_objects(store: DirectoryStore) -> None:
    store.put(object_key(b"1"), b"1")
    (store.path / object_key(b"1")).chmod(0)
    (found,) = store.list("kit.example.org/data/")
    assert found.size == 1


def test_the_clock_is_the_file_systems(store: DirectoryStore) -> None:
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_directory_that_may_not_be_written_refuses(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Refused):
        DirectoryStore(tmp_path).put("a", b"1")


def test_uploads_cannot_be_granted(store: DirectoryStore) -> None:
    with pytest.raises(Unsuitable):
        store.presign_put("a", b"", 1, timedelta(minutes=1))


def test_drain_waits_for_what_was_prepared_before(store: DirectoryStore) -> None:
    other = DirectoryStore(store.path)
    sent, dropped, forgotten = (store.prepare_delete([key]) for key in "abc")
    drained = threading.Event()

    def drain() -> None:
        other.drain()
        drained.set()

    waiter = threading.Thread(target=drain)
    waiter.start()
    sent.send()
    dropped.close()
    assert not drained.wait(0.1)
    del forgotten
    assert drained.wait(10)
    waiter.join()


CONTENDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from stratus.errors import Changed, Exists
from stratus.stores.contract import ABSENT, Match, Version
from stratus.stores.directory import DirectoryStore

store, mine, seen = DirectoryStore(sys.argv[1]), sys.argv[2], sys.argv[3]

def contend(number):
    try:
        store.put("contended", f"{mine}-{number}".encode(), Match(Version(seen)) if seen else ABSENT)
    except (Changed, Exists):
        return None
    return f"{mine}-{number}"

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(25) as pool:
    print(*filter(None, pool.map(contend, range(25))))
"""


@pytest.mark.parametrize("there", [False, True])
def test_of_a_hundred_contenders_in_four_processes_one_wins(store: DirectoryStore, there: bool) -> None:
    seen = store.put("contended", b"seen") if there else ""
    command = [sys.executable, "-c", CONTENDER, str(store.path)]
    processes = [
        subprocess.Popen([*command, str(number), seen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    winners = [word for process in processes for word in process.communicate(timeout=60)[0].split()]
    assert winners == [store.get("contended").data.decode()]


WRITER = """
import sys
from stratus.stores.directory import DirectoryStore
store = DirectoryStore(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    store.put("killed/key", b"%09d" % number * 100_000)
    store.put(f"killed/{number}", b"x" * 100_000)
    number += 1
"""


def test_a_killed_process_leaves_whole_files_and_no_locks(store: DirectoryStore) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 10
    while store.missing(["killed/5"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    data = store.get("killed/key").data
    assert data == data[:9] * 100_000
    assert all(found.size == 100_000 for found in store.list("killed/") if found.key != "killed/key")
    store.put("killed/key", b"after", Match(store.get("killed/key").version))
    with pytest.raises(Exists):
        store.put("killed/0", b"after", ABSENT)
