from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.errors import BadFormat, BadName
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.history import TRUNK, TRUNK_PREVIOUS, History, Tag, check_tag_name
from stratus.formats.manifest import Manifest
from tests import stock
from tests.formats.strategies import digests

FQRN = "a.example.org"
PREVIOUS = Algorithm.SHAKE128.digest(b"previous")
SMALL = st.integers(0, 2**40)
NAMES = st.from_regex(r"[A-Za-z0-9._/:-]{1,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TAGS = st.builds(Tag, NAMES, digests, SMALL, SMALL, SMALL, TEXT)


def tag(name: str, revision: int) -> Tag:
    return Tag(name, Algorithm.SHA1.digest(name.encode()), revision, 1000 + revision, 16384)


def stock_history(name: str, directory: Path) -> tuple[Manifest, bytes]:
    repository = stock.unpack(name, directory)
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    assert manifest.history is not None
    return manifest, repository.plain(ObjectId(manifest.history, Suffix.HISTORY))


@pytest.fixture
def history() -> Iterator[History]:
    with History.create(FQRN) as history:
        yield history


@given(st.lists(TAGS, unique_by=lambda tag: tag.name), st.none() | digests.filter(lambda digest: any(digest.raw)))
def test_a_history_survives_its_bytes(tags: list[Tag], previous: Digest | None) -> None:
    with History.create(FQRN) as history:
        for each in tags:
            history.put(each)
        data = history.pack(previous)
    with History.parse(data) as history:
        assert history.fqrn == FQRN
        assert history.previous == previous
        assert sorted(history.tags(), key=lambda tag: tag.name) == sorted(tags, key=lambda tag: tag.name)
        assert [tag.revision for tag in history.tags()] == sorted((tag.revision for tag in tags), reverse=True)


@pytest.mark.parametrize("name", stock.NAMES)
def test_the_head_of_a_stock_history_is_the_manifests_root(name: str, tmp_path: Path) -> None:
    manifest, data = stock_history(name, tmp_path)
    with History.parse(data) as history:
        assert history.fqrn == manifest.fqrn
        trunk = history.find(TRUNK)
        assert trunk is not None
        assert (trunk.root, trunk.revision, trunk.size) == (manifest.root, manifest.revision, manifest.root_size)
        assert history.tags()[0].root == manifest.root
        tags, previous = history.tags(), history.previous
        packed = history.pack(previous)
    with History.parse(packed) as again:
        assert (again.tags(), again.previous) == (tags, previous)


def test_tags_of_a_stock_history_are_found_by_name_revision_and_time(tmp_path: Path) -> None:
    _, data = stock_history("sample", tmp_path)
    with History.parse(data) as history:
        first, second = history.find("v1"), history.find("v2")
        assert first is not None
        assert second is not None
        assert (first.revision, first.description) == (2, "first")
        assert history.revision(2) == first
        assert history.revision(3) is None
        assert history.find("v3") is None
        assert history.at(datetime.fromtimestamp(first.timestamp, UTC)) == first
        assert history.at(datetime.fromtimestamp(second.timestamp + 0.5, UTC)) == second
        assert history.at(datetime(2000, 1, 1, tzinfo=UTC)) is None


def test_the_database_is_what_the_stock_tools_expect(history: History) -> None:
    history.advance(tag("", 1))
    data = history.pack(None)
    assert int.from_bytes(data[16:18], "big") == 1024
    assert data[18:20] == b"\1\1"  # a rollback journal, no write-ahead log
    assert int.from_bytes(data[36:40], "big") == 0  # free pages
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data)
        assert dict(database.execute("SELECT key, value FROM properties")) == {
            "schema": "1.0",
            "schema_revision": "3",
            "fqrn": FQRN,
            "previous_revision": "0" * 40,
        }
        assert list(database.execute("SELECT * FROM branches")) == [("", None, 0)]
        assert list(database.execute("SELECT * FROM recycle_bin")) == []
        assert list(database.execute("SELECT channel, branch FROM tags")) == [(0, "")]


def test_tables_have_the_columns_and_keys_of_the_stock_tools(history: History, tmp_path: Path) -> None:
    def schema(data: bytes) -> dict[str, str]:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            found = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            return {name: "".join(sql.split()) for name, sql in found}

    assert schema(history.pack(None)) == schema(stock_history("sample", tmp_path)[1])


def test_the_predecessor_keeps_its_algorithm_and_forty_zeros_mean_none(history: History) -> None:
    assert history.previous is None
    with History.parse(history.pack(PREVIOUS)) as again:
        assert again.previous == PREVIOUS
        again.pack(None)
        assert again.previous is None


def test_the_trunk_moves_and_what_it_was_is_the_previous_one(history: History) -> None:
    for revision in (1, 2, 3):
        history.advance(tag("ignored", revision))
        history.advance(tag("ignored", revision))  # once more, as after a crash
    trunk, previous = history.find(TRUNK), history.find(TRUNK_PREVIOUS)
    assert trunk == replace(tag("ignored", 3), name=TRUNK, description="current HEAD")
    assert previous == replace(tag("ignored", 2), name=TRUNK_PREVIOUS, description="default undo target")
    assert len(history.tags()) == 2


def test_the_first_revision_has_no_previous_one(history: History) -> None:
    history.advance(tag("", 1))
    assert [tag.name for tag in history.tags()] == [TRUNK]


def test_a_tag_can_be_moved_and_removed(history: History) -> None:
    history.put(tag("v1", 1))
    history.put(replace(tag("v1", 2), description="moved"))
    assert [(tag.revision, tag.description) for tag in history.tags()] == [(2, "moved")]
    assert history.remove("v1")
    assert not history.remove("v1")
    assert history.find("v1") is None


def test_other_branches_are_kept_but_not_searched_by_time_or_revision(history: History) -> None:
    history.put(tag("v1", 1))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(history.pack(None))
        database.execute("INSERT INTO branches VALUES ('fix@v1', '', 2)")
        database.execute("UPDATE tags SET branch = 'fix@v1', description = CAST(x'ff' AS TEXT)")
        data = database.serialize()
    with History.parse(data) as again:
        found = again.find("v1")
        assert found is not None
        assert (found.branch, found.description) == ("fix@v1", "\udcff")
        assert again.revision(1) is None
        assert again.at(datetime(2030, 1, 1, tzinfo=UTC)) is None
        again.put(found)
        assert again.find("v1") == found


@pytest.mark.parametrize("name", ["v1", "a/b.c:d-e_f", "x" * 255, "generic-2026-11-22T11:54:44Z"])
def test_tag_names_may_have_these_characters(name: str) -> None:
    assert check_tag_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a@b", "ä", "a\n", "x" * 256, "trunk", "trunk-previous"])
def test_other_tag_names_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_tag_name(name)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE properties SET value = '2.0' WHERE key = 'schema'",
        "UPDATE properties SET value = '2' WHERE key = 'schema_revision'",
        "DELETE FROM properties WHERE key = 'fqrn'",
        "DROP TABLE tags",
        "DROP TABLE properties",
    ],
)
def test_databases_of_another_schema_are_refused(change: str, history: History) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(history.pack(None))
        database.execute(change)
        data = database.serialize()
    with pytest.raises(BadFormat):
        History.parse(data)


def test_what_is_no_database_is_refused(history: History) -> None:
    data = history.pack(None)
    damaged = data[:1024] + bytes(len(data) - 1024)
    for broken in (b"", b"x" * 5000, data[:100], damaged, data[:18] + b"\2\2" + data[20:]):
        with pytest.raises(BadFormat):
            History.parse(broken)


def test_a_tag_without_a_hash_is_refused(history: History) -> None:
    history.put(tag("v1", 1))
    history._db.execute("UPDATE tags SET hash = NULL")
    with History.parse(history.pack(None)) as again, pytest.raises(BadFormat):
        again.tags()


def test_damage_is_never_anything_but_a_bad_format() -> None:
    with History.create(FQRN) as history:
        for revision in range(20):
            history.advance(tag("", revision))
        data = history.pack(None)
    random = Random(1)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random.choice((1, 3, 20))):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        with suppress(BadFormat), History.parse(bytes(damaged)) as again:
            again.tags()
