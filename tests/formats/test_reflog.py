from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats.hashes import Algorithm
from stratus.formats.manifest import Manifest
from stratus.formats.reflog import Ref, RefKind, Reflog
from tests import stock
from tests.formats.strategies import digests

FQRN = "a.example.org"
FIRST, SECOND = (Algorithm.SHA1.digest(name) for name in (b"first", b"second"))
REFS = st.builds(Ref, digests, st.sampled_from(RefKind), st.integers(0, 2**40))


@given(st.lists(REFS, unique_by=lambda ref: ref.digest))
def test_a_reflog_survives_its_bytes(refs: list[Ref]) -> None:
    with Reflog.create(FQRN) as reflog:
        for ref in refs:
            reflog.add(ref.kind, ref.digest, ref.timestamp)
        data = reflog.pack()
    with Reflog.parse(data) as reflog:
        assert reflog.fqrn == FQRN
        assert reflog.refs() == refs
        assert all(ref.digest in reflog for ref in refs)


@pytest.mark.parametrize("name", stock.NAMES)
def test_a_stock_reflog_names_everything_that_the_manifest_does(name: str, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path)
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    data = repository.read(".cvmfsreflog")
    assert manifest.root.algorithm.digest(data) == manifest.reflog
    with Reflog.parse(data) as reflog:
        assert reflog.fqrn == manifest.fqrn
        kinds = {ref.digest: ref.kind for ref in reflog.refs()}
    assert kinds[manifest.root] is RefKind.CATALOG
    assert kinds[manifest.certificate] is RefKind.CERTIFICATE
    assert manifest.history is not None
    assert kinds[manifest.history] is RefKind.HISTORY
    assert manifest.meta_info is not None
    assert kinds[manifest.meta_info] is RefKind.META_INFO


def test_adding_again_replaces_the_time() -> None:
    with Reflog.create(FQRN) as reflog:
        reflog.add(RefKind.CERTIFICATE, FIRST, 1)
        reflog.add(RefKind.CATALOG, SECOND, 1)
        reflog.add(RefKind.CERTIFICATE, FIRST, 2)
        assert reflog.refs() == [Ref(SECOND, RefKind.CATALOG, 1), Ref(FIRST, RefKind.CERTIFICATE, 2)]


def test_what_was_removed_is_gone() -> None:
    with Reflog.create(FQRN) as reflog:
        reflog.add(RefKind.CATALOG, FIRST, 1)
        assert reflog.remove(FIRST)
        assert not reflog.remove(FIRST)
        assert FIRST not in reflog
        assert reflog.refs() == []


def test_the_database_is_what_the_stock_tools_expect(tmp_path: Path) -> None:
    with Reflog.create(FQRN) as reflog:
        for number in range(1000):
            reflog.add(RefKind.CATALOG, Algorithm.SHA1.digest(b"%d" % number), number)
        large = len(reflog.pack())
        for ref in reflog.refs():
            reflog.remove(ref.digest)
        data = reflog.pack()
    assert len(data) == 5 * 1024 < large
    assert int.from_bytes(data[16:18], "big") == 1024
    assert data[18:20] == b"\1\1"  # a rollback journal, no write-ahead log
    assert int.from_bytes(data[36:40], "big") == 0  # free pages

    def schema(data: bytes) -> list[str]:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            found = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master ORDER BY name") if sql]
            return [*found, *(f"{key}={value}" for key, value in database.execute("SELECT * FROM properties"))]

    stock_data = stock.unpack("sample", tmp_path).read(".cvmfsreflog")
    assert sorted(schema(data)) == sorted(line.replace("sample.", "a.") for line in schema(stock_data))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE properties SET value = '1' WHERE key = 'schema_revision'",
        "DELETE FROM properties WHERE key = 'fqrn'",
        "DROP TABLE refs",
    ],
)
def test_databases_of_another_schema_are_refused(change: str) -> None:
    with Reflog.create(FQRN) as reflog:
        reflog._db.execute(change)
        data = reflog.pack()
    for broken in (data, data[:1000], b"", b"x" * 1024):
        with pytest.raises(BadFormat):
            Reflog.parse(broken)


@pytest.mark.parametrize("change", ["UPDATE refs SET type = 4", "UPDATE refs SET hash = 'x'"])
def test_references_that_cannot_be_understood_are_refused(change: str) -> None:
    with Reflog.create(FQRN) as reflog:
        reflog.add(RefKind.CATALOG, FIRST, 1)
        reflog._db.execute(change)
        with pytest.raises(BadFormat):
            reflog.refs()
