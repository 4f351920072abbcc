"""The whole way on two S3 servers: published with credentials, read without any from the bucket's own URL."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest
import urllib3

from stratus.cli.main import main
from stratus.errors import NoSuchRepository, NotFound, Unsuitable
from stratus.formats.records import Settings
from stratus.repository.creation import create
from stratus.repository.layout import Layout
from stratus.repository.removal import destroy
from stratus.stores.contract import OBJECT_HEADERS, POINTER_HEADERS, Headers
from stratus.stores.http import HttpStore
from stratus.stores.s3 import S3Store
from stratus.testing.ceph_server import LocalCeph
from stratus.testing.s3_server import LocalS3
from stratus.writers.publish import Options, tag
from tests.ceph.versioning import switch_versioning_on
from tests.repositories import FQRN, content, keys, new_repository, put, reader, writer

OTHER = "other.example.org"
SMALL_CHUNKS = Settings(chunk_minimum=1000, chunk_average=2000, chunk_maximum=4000)
LAYOUT = Layout(FQRN)


@pytest.fixture(params=["seaweedfs", "ceph"])
def server(request: pytest.FixtureRequest) -> LocalS3:
    found: LocalS3 = request.getfixturevalue({"seaweedfs": "s3_server", "ceph": "ceph_server"}[request.param])
    return found


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of its own, or a prefix of one: how writers and how everybody sees it."""

    name: str
    prefix: str
    store: S3Store

    @property
    def url(self) -> str:
        """What readers put before the name of a repository."""
        return f"{self.store.place.base}/{self.prefix}".rstrip("/")

    @property
    def public(self) -> HttpStore:
        return HttpStore(self.url)


@pytest.fixture(params=["", "some/where"], ids=["bucket", "prefix"])
def bucket(request: pytest.FixtureRequest, server: LocalS3) -> Bucket:
    name = f"whole-{token_hex(6)}"
    server.create_bucket(name)
    return Bucket(name, request.param, server.store(name, request.param))


def ask(url: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url)


def test_what_is_published_is_read_over_plain_http(bucket: Bucket) -> None:
    new_repository(bucket.store, SMALL_CHUNKS)
    big = os.urandom(30_000)
    put(bucket.store, {"bin/tool": b"1", "lib/big": big, "old/file": b"gone"}, b"/sw", Options(catalog=True, tag="v1"))
    put(bucket.store, {"x": b"deep"}, b"/sw/lib/nested", Options(catalog=True))
    put(bucket.store, {"bin/tool": b"2", "lib/big": big[:20_000]}, b"/sw", Options(catalog=True, replace=True))
    tag(writer(bucket.store), FQRN, "v2", None, "tester")

    first = {"sw": None, "sw/bin": None, "sw/lib": None, "sw/.cvmfscatalog": b""}
    newest = {**first, "sw/bin/tool": b"2", "sw/lib/big": big[:20_000]}
    old = {**first, "sw/bin/tool": b"1", "sw/lib/big": big, "sw/old": None, "sw/old/file": b"gone"}
    assert content(bucket.public) == content(bucket.public, "v2") == newest
    assert content(bucket.public, "v1") == old
    with reader(bucket.public).at(3) as revision:
        assert revision.tree.catalog_of(b"/sw/lib/nested/x").path == b"/sw/lib/nested"
        found = revision.lookup(b"/sw/lib/big")
        assert found is not None
        assert found.content is not None
        assert len(found.content.chunks) > 5


def test_everybody_reads_what_is_public_and_nothing_else(bucket: Bucket, server: LocalS3) -> None:
    new_repository(bucket.store)
    put(bucket.store, {"a": b"1"})
    stranger = server.store(bucket.name, bucket.prefix, anonymous=True)
    for key in (LAYOUT.lock, LAYOUT.settings):
        assert bucket.store.missing([key]) == set()
        assert ask(f"{bucket.url}/{key}").status == 403
        for anonymous in (bucket.public, stranger):
            with pytest.raises(NotFound):
                anonymous.get(key)
    absent = [f"{FQRN}/data/00/{'0' * 38}", f"{FQRN}/.cvmfsnothing"]
    assert {ask(f"{bucket.url}/{key}").status for key in absent} == {403 if isinstance(server, LocalCeph) else 404}
    for anonymous in (bucket.public, stranger):
        assert anonymous.missing([*absent, LAYOUT.manifest]) == {*absent}
        assert dict(anonymous.get_many(absent)) == dict.fromkeys(absent)
    with pytest.raises(NoSuchRepository):
        reader(HttpStore(f"{bucket.url}/nowhere")).refresh()


def test_pointers_are_short_lived_and_objects_immutable(bucket: Bucket) -> None:
    new_repository(bucket.store)
    put(bucket.store, {"a": b"1"})
    published = [stat.key for stat in bucket.store.list(LAYOUT.public)]
    pointers = {LAYOUT.manifest, LAYOUT.whitelist, LAYOUT.reflog}
    assert pointers < set(published)
    assert len(published) > 8
    for key in published:
        reply = ask(f"{bucket.url}/{key}")
        assert reply.status == 200
        assert "Content-Encoding" not in reply.headers
        expected = OBJECT_HEADERS if key.startswith(f"{FQRN}/data/") else POINTER_HEADERS
        assert Headers(reply.headers["Content-Type"], reply.headers["Cache-Control"]) == expected


def test_repositories_share_a_bucket_and_its_policy(bucket: Bucket) -> None:
    new_repository(bucket.store)
    put(bucket.store, {"a": b"1"})
    assert create(bucket.store, OTHER, keys(OTHER), Settings()).policy is None
    assert content(bucket.public) == {"a": b"1"}
    assert bucket.public.missing([Layout(OTHER).manifest, "info/v1/repositories.json"]) == set()
    destroy(bucket.store, FQRN)
    assert bucket.public.missing([LAYOUT.manifest, Layout(OTHER).manifest]) == {LAYOUT.manifest}
    destroy(bucket.store, OTHER)
    assert bucket.store.policy() is None


def test_several_publish_at_once_and_nothing_is_lost(bucket: Bucket) -> None:
    new_repository(bucket.store)
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda n: put(bucket.store, {"f": b"%d" % n}, b"/%d" % n), range(8)))
    revisions = {receipt.revision for receipt in receipts}  # some of them together
    assert revisions == set(range(2, 2 + len(revisions)))
    published = {f"{number}/f": b"%d" % number for number in range(8)}
    assert content(bucket.public) == {**published, **dict.fromkeys(map(str, range(8)))}


def test_a_versioned_bucket_works_or_is_refused_before_anything_is_written(server: LocalS3) -> None:
    name = f"versioned-{token_hex(6)}"
    server.create_bucket(name)
    store = server.store(name)
    switch_versioning_on(store)
    if isinstance(server, LocalCeph):
        with pytest.raises(Unsuitable, match="versioning"):
            new_repository(store)
        assert list(store.list("")) == []
    else:
        new_repository(store)
        put(store, {"a": b"1"})
        assert content(store) == {"a": b"1"}


def test_the_command_line_needs_nothing_but_the_usual_variables(
    server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"cli-{token_hex(6)}"
    server.create_bucket(name)
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("STRATUS_CONFIG", str(tmp_path / "config.toml"))
    keys().save(tmp_path / "keys")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "README").write_text("read me\n")
    for words in (
        ["create", FQRN, f"s3://{name}", "--keys", str(tmp_path / "keys")],
        ["publish", f"{FQRN}:/docs", str(tmp_path / "tree"), "--tag", "v1"],
        ["check", f"{server.endpoint}/{name}/{FQRN}", "--public-key", str(tmp_path / "keys" / f"{FQRN}.pub")],
    ):
        assert main(words) == 0, capsys.readouterr()
    capsys.readouterr()
    assert main(["cat", f"{FQRN}@v1:/docs/README"]) == 0
    assert capsys.readouterr().out == "read me\n"
