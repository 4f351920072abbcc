"""Ceph's gateway as a store: all that every store must do, and what is peculiar to it."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_hex

import pytest
import urllib3

from stratus.errors import Changed, Unknown, Unsuitable
from stratus.stores.contract import ABSENT, OBJECT_HEADERS, POINTER_HEADERS, Headers, Match, Store, Version, ignore
from stratus.stores.probe import Capabilities, probe
from stratus.stores.s3 import S3Store
from stratus.stores.s3_wire import Wire
from stratus.testing.ceph_server import LocalCeph
from stratus.testing.store_kit import StoreTests, object_key
from tests.ceph.versioning import switch_versioning_on


class TestCephStore(StoreTests):
    @pytest.fixture
    def store(self, ceph_store: S3Store) -> S3Store:
        return ceph_store

    def test_of_many_that_saw_the_same_version_one_replaces_it(self, store: Store) -> None:
        """As in the kit; but of those that raced to the last moment the gateway says 500, which may mean anything."""
        seen = store.put("contended/key", b"seen")

        def contend(number: int) -> str:
            try:
                store.put("contended/key", b"%d" % number, Match(seen))
            except Changed:
                return "changed"
            except Unknown:
                return "unknown"
            return "won"

        with ThreadPoolExecutor(self.contenders) as pool:
            ends = list(pool.map(contend, range(self.contenders)))
        assert Counter(ends)["won"] == 1
        assert store.get("contended/key").data == b"%d" % ends.index("won")


def test_ceph_can_do_everything_but_verify_granted_uploads(ceph_store: S3Store) -> None:
    found = probe(ceph_store, ".stratus/a")
    assert found == Capabilities(conditional_puts=True, byte_prefixes=True, grants=True, checksums=False)
    assert list(ceph_store.list("")) == []


def test_versions_have_no_quotes_as_ceph_matches_no_others(ceph_store: S3Store) -> None:
    for key in ("a", object_key(b"1")):
        version = ceph_store.put(key, b"1")
        assert '"' not in version + ceph_store.get(key).version + next(ceph_store.list(key)).version
        with pytest.raises(Changed):
            ceph_store.put(key, b"2", Match(Version(f'"{version}"')))
        ceph_store.put(key, b"2", Match(version))


def test_a_grant_is_for_one_put_with_just_these_headers(ceph_store: S3Store) -> None:
    key = object_key(b"right")
    grant = ceph_store.presign_put(key, hashlib.sha1(b"right").digest(), 5, timedelta(minutes=5))
    with urllib3.PoolManager(retries=False) as pool:

        def send(headers: tuple[tuple[str, str], ...]) -> int:
            return pool.request("PUT", grant.url, body=b"right", headers=dict(headers)).status

        for left_out in range(len(grant.headers)):
            assert send(grant.headers[:left_out] + grant.headers[left_out + 1 :]) == 403
        assert send(grant.headers) == 200
        assert send(grant.headers) == 412
    assert ceph_store.get(key).data == b"right"


def test_a_grant_without_a_hash_is_for_any_body_of_that_size(ceph_store: S3Store) -> None:
    grant = ceph_store.presign_put("staged", None, 5, timedelta(minutes=5))
    with urllib3.PoolManager(retries=False) as pool:
        for body, status in ((b"first", 200), (b"other", 200), (b"more than five", 403), (b"four", 403)):
            assert pool.request("PUT", grant.url, body=body, headers=dict(grant.headers)).status == status
    assert ceph_store.get("staged").data == b"other"


def test_a_versioned_bucket_is_refused_with_the_reason(ceph_server: LocalCeph) -> None:
    bucket = f"versioned-{token_hex(4)}"
    ceph_server.create_bucket(bucket)
    store = ceph_server.store(bucket)
    switch_versioning_on(store)
    with pytest.raises(Unsuitable, match=r"If-None-Match.*versioning"):
        probe(store, ".stratus/a")
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("key", "headers"), [(object_key(b"1"), OBJECT_HEADERS), ("kit.example.org/.cvmfspublished", POINTER_HEADERS)]
)
def test_headers_are_stored_with_an_object(ceph_store: S3Store, key: str, headers: Headers) -> None:
    ceph_store.put(key, b"1", ABSENT)
    wire = Wire(ceph_store.place)
    stored = wire.send(wire.sign("get", "GET", key), ignore).headers
    assert Headers(stored["content-type"], stored["cache-control"]) == headers
