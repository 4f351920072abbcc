"""What the stock tools wrote reads back as the stock client showed it."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stratus.client.filesystem import expand
from stratus.formats.entries import Entry, Kind
from stratus.repository.repository import Repository
from stratus.repository.revision import Revision
from stratus.stores.directory import DirectoryStore
from tests.stock import CLOCK, NAMES, StockRepository, unpack

LISTED = [
    ("sample", None),
    ("sample", "v1"),
    ("sample", "v2"),
    ("links", None),
    ("links", "second"),
    ("links", "fourth"),
]
LISTED += [("w1", None), ("shake", None), ("rmd", None)]


def opened(stock: StockRepository) -> Repository:
    return Repository(DirectoryStore(stock.store), stock.fqrn, [stock.public_key], clock=lambda: CLOCK)


@pytest.fixture(params=LISTED, ids=lambda case: case[0] if case[1] is None else "@".join(case))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StockRepository, str | None, Revision]]:
    name, tag = request.param
    stock = unpack(name, tmp_path)
    with opened(stock).at(tag) as revision:
        yield stock, tag, revision


def shown(entry: Entry, links: int) -> dict[str, Any]:
    """An entry as the listings have it, as far as it is an entry's own."""
    size = len(expand(entry.target, {})) if entry.kind is Kind.SYMLINK else entry.size
    described: dict[str, Any] = {
        "mode": oct(entry.st_mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "size": None if entry.kind is Kind.DIRECTORY else size,
        "nlink": links,
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind is Kind.SYMLINK:
        described["target"] = base64.b64encode(expand(entry.target, {})).decode()
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        described["rdev"] = [os.major(entry.rdev), os.minor(entry.rdev)]
    if entry.content is not None:
        if entry.content.digest is not None:
            described["user.hash"] = str(entry.content.digest)
        described["user.chunks"] = str(len(entry.content.chunks) or 1)
        described["user.compression"] = entry.content.compression.name.lower()
    return described


def test_every_entry_is_as_the_stock_client_showed_it(
    case: tuple[StockRepository, str | None, Revision],
) -> None:
    stock, tag, revision = case
    listing = stock.entries(tag)
    rows = {row.entry.path: row for row in revision.tree.walk()}
    assert rows.keys() == listing.keys()
    for path, listed in listing.items():
        row = rows[path]
        described = shown(row.entry, row.links)
        assert {key: listed[key] for key in described if key in listed} == {
            key: value for key, value in described.items() if key in listed
        }, path
        for name, value in row.entry.xattrs:
            assert listed.get(name.decode(), value.decode()) == value.decode()


def test_every_file_has_the_content_that_the_stock_client_read(
    case: tuple[StockRepository, str | None, Revision],
) -> None:
    stock, tag, revision = case
    listing = stock.entries(tag)
    read = 0
    for entry in revision.walk():
        if entry.kind is Kind.FILE and entry.content is not None and not entry.content.external:
            assert hashlib.sha256(revision.read(entry)).hexdigest() == listing[entry.path]["sha256"], entry.path
            read += 1
    assert read


@pytest.mark.parametrize("name", NAMES)
def test_the_revision_is_the_one_that_was_mounted(name: str, tmp_path: Path) -> None:
    stock = unpack(name, tmp_path)
    with opened(stock).at() as revision:
        expected = stock.listing["xattrs_of_root"]
        assert str(revision.number) == expected["user.revision"]
        assert str(revision.root) == expected["user.root_hash"]


@pytest.mark.parametrize("name", NAMES)
def test_every_tag_can_be_opened_and_read(name: str, tmp_path: Path) -> None:
    repository = opened(unpack(name, tmp_path))
    for tag in repository.tags():
        with repository.at(tag.name) as revision:
            assert revision.number == tag.revision
            for entry in revision.walk():
                if entry.kind is Kind.FILE and entry.content is not None and not entry.content.external:
                    assert len(revision.read(entry)) == entry.size


def test_a_snapshot_in_the_virtual_directory_shows_that_revision(tmp_path: Path) -> None:
    repository = opened(unpack("sample", tmp_path))
    with repository.at() as newest, repository.at("v1") as tagged:
        hidden = newest.lookup(b"/.cvmfs")
        assert hidden is not None
        assert b"/.cvmfs" not in [entry.path for entry in newest.list()]
        there = {entry.path[len(b"/.cvmfs/snapshots/v1") :] for entry in newest.walk(b"/.cvmfs/snapshots/v1")}
        assert there == {entry.path for entry in tagged.walk()} != set()
        nested = [path for path in there if newest.lookup(b"/.cvmfs/snapshots/v1" + path) is None]
        assert nested == []


def test_parts_of_a_chunked_file_are_read_alone(tmp_path: Path) -> None:
    with opened(unpack("sample", tmp_path)).at() as revision:
        entry = next(entry for entry in revision.walk() if entry.content and entry.content.chunks)
        whole = revision.read(entry)
        for offset, size in ((0, 1), (65535, 2), (entry.size - 3, 10), (100_000, 400_000), (entry.size, 5)):
            assert revision.read(entry, offset, size) == whole[offset : offset + size]


def test_differences_between_revisions_are_those_of_their_listings(tmp_path: Path) -> None:
    stock = unpack("sample", tmp_path)
    repository = opened(stock)
    with repository.at("v1") as old, repository.at("v2") as new:
        found = {difference.path: difference for difference in old.diff(new)}
    before, after = stock.entries("v1"), stock.entries("v2")

    def comparable(listed: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if listed is None else {key: value for key, value in listed.items() if key != "nlink"}

    different = {
        path for path in before.keys() | after.keys() if comparable(before.get(path)) != comparable(after.get(path))
    }
    assert found.keys() == different != set()
    assert all((found[path].before is None) == (path not in before) for path in found)
    assert all((found[path].after is None) == (path not in after) for path in found)
