from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratus.errors import NoSuchRepository, NotPermitted, RolledBack, UsageError
from stratus.formats import records
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.history import History
from stratus.formats.records import Collection, Format, Lock, Settings
from stratus.formats.reflog import RefKind, Reflog
from stratus.formats.whitelist import Whitelist
from stratus.repository.creation import create
from stratus.repository.layout import INFO, Layout
from stratus.repository.removal import destroy
from stratus.repository.repository import Repository
from stratus.stores.directory import DirectoryStore
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.trust.keys import RepositoryKeys
from stratus.upkeep.resign import resign
from tests.repositories import FQRN, content, keys, new_repository, put, reader

LAYOUT = Layout(FQRN)


def test_a_new_repository_is_empty_and_trusted() -> None:
    store = new_repository()
    assert content(store) == {}
    with reader(store).at() as revision:
        assert revision.number == 1
        assert revision.tree.root.catalog.ttl == 240
        assert revision.tree.root.catalog.previous is None
        assert revision.tree.root.catalog.own == {**dict.fromkeys(revision.tree.root.catalog.own, 0), "dir": 1}


def test_its_private_state_is_there_from_the_start() -> None:
    store = new_repository(settings=Settings(hash="shake128", ttl=60))
    form = records.parse(store.get(LAYOUT.format).data, Format)
    assert (form.format, form.capabilities["conditional_puts"]) == (1, True)
    settings = records.parse(store.get(LAYOUT.settings).data, Settings)
    assert (settings.hash, settings.ttl) == ("shake128", 60)
    assert not records.parse(store.get(LAYOUT.lock).data, Lock).held
    collection = records.parse(store.get(LAYOUT.collection).data, Collection)
    assert (collection.n, collection.phase) == (0, "quiet")


def test_history_and_reflog_know_the_first_revision() -> None:
    store = new_repository()
    manifest = reader(store).manifest
    assert manifest.history is not None
    history_id = ObjectId(manifest.history, Suffix.HISTORY)
    with History.parse(reader(store).objects.fetch(history_id)) as history:
        (trunk,) = history.tags()
        assert (trunk.name, trunk.root, trunk.revision, trunk.size) == ("trunk", manifest.root, 1, manifest.root_size)
        assert history.previous is None
    with Reflog.parse(store.get(LAYOUT.reflog).data) as reflog:
        assert {(ref.kind, ref.digest) for ref in reflog.refs()} == {
            (RefKind.CATALOG, manifest.root),
            (RefKind.CERTIFICATE, manifest.certificate),
            (RefKind.HISTORY, manifest.history),
        }


def test_the_empty_file_is_stored_and_replication_allowed() -> None:
    store = new_repository()
    assert store.missing([f"{FQRN}/data/e8/ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78", LAYOUT.master_replica]) == set()


def test_a_second_one_of_the_name_is_refused_and_another_one_listed() -> None:
    store = new_repository()
    with pytest.raises(UsageError, match="already"):
        create(store, FQRN, keys(), Settings())
    create(store, "other.example.org", keys("other.example.org"), Settings())
    listed = json.loads(store.get(INFO).data)
    assert [item["name"] for item in listed["repositories"]] == [FQRN, "other.example.org"]


def test_a_creation_that_was_interrupted_anywhere_can_be_repeated() -> None:
    calls: list[Call] = []

    def count(call: Call) -> Fault:
        calls.append(call)
        return Fault.PASS

    new_repository(FaultyStore(MemoryStore(), count))
    for index in range(len(calls)):
        store = MemoryStore()
        dying = FaultyStore(store, lambda call, index=index: Fault.DIE_AFTER if call.index == index else Fault.PASS)  # type: ignore[misc]
        with pytest.raises(Killed):
            new_repository(dying)
        if store.missing([LAYOUT.manifest]):
            new_repository(store)
        put(store, {"a": b"1"})
        assert content(store) == {"a": b"1"}


def test_without_the_master_key_nothing_can_be_created(tmp_path: Path) -> None:
    keys().save(tmp_path)
    (tmp_path / f"{FQRN}.masterkey").unlink()
    with pytest.raises(NotPermitted):
        create(MemoryStore(), FQRN, RepositoryKeys.load(tmp_path, FQRN), Settings())


def test_destroying_leaves_nothing_but_the_others(tmp_path: Path) -> None:
    store = new_repository(DirectoryStore(tmp_path))
    create(store, "other.example.org", keys("other.example.org"), Settings())
    put(store, {"a": b"1"})
    assert destroy(store, FQRN) > 10
    assert not [stat.key for stat in store.list("") if FQRN in stat.key]
    assert [item["name"] for item in json.loads(store.get(INFO).data)["repositories"]] == ["other.example.org"]
    with pytest.raises(NoSuchRepository):
        destroy(store, FQRN)
    with pytest.raises(NoSuchRepository):
        reader(store).at()


def test_resigning_moves_the_end_of_the_whitelist_only() -> None:
    store = new_repository()
    before = Whitelist.parse(store.get(LAYOUT.whitelist).data)
    renewed = resign(store, FQRN, keys(), days=90)
    assert (renewed.expires - before.expires).days in (59, 60)
    assert Whitelist.parse(store.get(LAYOUT.whitelist).data) == renewed
    assert content(store) == {}


def test_a_reader_is_never_moved_backwards() -> None:
    store = new_repository()
    old = store.get(LAYOUT.manifest).data
    put(store, {"a": b"1"})
    repository = reader(store)
    assert repository.refresh().revision == 2
    store.put(LAYOUT.manifest, old)
    with pytest.raises(RolledBack):
        repository.refresh()
    assert isinstance(repository, Repository)
