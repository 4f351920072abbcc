"""Repositories of the stock tools are taken over and published to."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from stratus.errors import NoSuchRepository, Untrusted, UsageError
from stratus.formats.entries import Kind
from stratus.formats.hashes import Algorithm
from stratus.repository.adoption import adopt
from stratus.repository.repository import Repository
from stratus.stores.directory import DirectoryStore
from stratus.stores.memory import MemoryStore
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish, remove
from tests.repositories import Files, keys
from tests.stock import NAMES, StockRepository, unpack


def contents(stock: StockRepository) -> dict[bytes, bytes | None]:
    fqrn = stock.fqrn
    repository = Repository(DirectoryStore(stock.store), fqrn, [keys(fqrn).public_key])
    with repository.at() as revision:
        return {
            entry.path: revision.read(entry)
            if entry.kind is Kind.FILE and entry.content and not entry.content.external
            else None
            for entry in revision.walk()
        }


@pytest.mark.parametrize("name", NAMES)
def test_an_adopted_repository_shows_the_same_tree_under_new_keys(name: str, tmp_path: Path) -> None:
    stock = unpack(name, tmp_path)
    store = DirectoryStore(stock.store)
    adopted = adopt(store, stock.fqrn, keys(stock.fqrn))
    assert str(adopted.manifest.root) == stock.listing["xattrs_of_root"]["user.root_hash"]
    assert contents(stock).keys() == stock.entries().keys()
    with pytest.raises(UsageError):
        adopt(store, stock.fqrn, keys(stock.fqrn))


@pytest.mark.parametrize("name", NAMES)
def test_edits_on_top_of_it_read_back_and_leave_the_rest(name: str, tmp_path: Path) -> None:
    stock = unpack(name, tmp_path)
    store = DirectoryStore(stock.store)
    adopt(store, stock.fqrn, keys(stock.fqrn))
    model = contents(stock)

    def publish_files(files: dict[str, bytes | None], path: bytes, options: Options = Options()) -> None:
        writer = DirectWriter(store, stock.fqrn, keys(stock.fqrn), "tester")
        publish(writer, stock.fqrn, path, [Files(files)], "tester", options)

    publish_files({"x/y": b"new", "x/z": b"newer"}, b"/added", Options(catalog=True))
    model |= {b"/added": None, b"/added/.cvmfscatalog": b"", b"/added/x": None}
    model |= {b"/added/x/y": b"new", b"/added/x/z": b"newer"}
    assert contents(stock) == model

    victim = min(path for path, data in model.items() if data and not path.startswith(b"/added"))
    directory, _, base = victim.rpartition(b"/")
    publish_files({base.decode(): b"changed"}, directory)
    model[victim] = b"changed"
    assert contents(stock) == model

    remove(DirectWriter(store, stock.fqrn, keys(stock.fqrn)), stock.fqrn, b"/added/.cvmfscatalog", "t", recursive=False)
    del model[b"/added/.cvmfscatalog"]
    assert contents(stock) == model

    markers = [path for path in model if path.endswith(b"/.cvmfscatalog")]
    for marker in markers:
        remove(DirectWriter(store, stock.fqrn, keys(stock.fqrn)), stock.fqrn, marker, "t", recursive=False)
        del model[marker]
    top = b"/" + victim.split(b"/")[1]
    remove(DirectWriter(store, stock.fqrn, keys(stock.fqrn)), stock.fqrn, top, "tester", recursive=True)
    model = {path: data for path, data in model.items() if path != top and not path.startswith(top + b"/")}
    assert contents(stock) == model


def test_its_old_signatures_are_verified_with_the_old_key(tmp_path: Path) -> None:
    stock = unpack("w1", tmp_path)
    store = DirectoryStore(stock.store)
    with pytest.raises(Untrusted):
        adopt(store, stock.fqrn, keys(stock.fqrn), public_key=keys("other.example.org").public_key)
    assert not list(store.list(".stratus/"))


def test_where_nothing_is_nothing_can_be_adopted() -> None:
    with pytest.raises(NoSuchRepository):
        adopt(MemoryStore(), "w1.example.org", keys("w1.example.org"))


def test_new_objects_have_the_names_that_the_stock_tools_would_give(tmp_path: Path) -> None:
    stock = unpack("sample", tmp_path)
    store = DirectoryStore(stock.store)
    adopt(store, stock.fqrn, keys(stock.fqrn))
    writer = DirectWriter(store, stock.fqrn, keys(stock.fqrn), "tester")
    content = b"the same text again and again\n" * 1000
    publish(writer, stock.fqrn, b"/new", [Files({"x": content})], "tester")
    with Repository(store, stock.fqrn, [keys(stock.fqrn).public_key]).at() as revision:
        entry = revision.lookup(b"/new/x")
    assert entry is not None
    assert entry.content is not None
    assert entry.content.digest == Algorithm.SHA1.digest(zlib.compress(content))
