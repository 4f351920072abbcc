from __future__ import annotations

import json
from secrets import token_hex

import pytest

from stratus.errors import NotFound, StoreError
from stratus.stores.memory import MemoryStore
from stratus.stores.policy import allow_reading, forbid_reading
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3

PUBLIC = (
    "a.example.org/.cvmfspublished",
    "a.example.org/data/00/00000000000000000000000000000000000000",
    "info/v1/repositories.json",
)
PRIVATE = (".stratus/a.example.org/lock", "b.example.org/.cvmfspublished", "a.example.organisation/x", "other")


@pytest.fixture
def bucket(s3_server: LocalS3) -> str:
    name = f"policy-{token_hex(4)}"
    s3_server.create_bucket(name)
    return name


@pytest.mark.parametrize("prefix", ["", "pre/fix"])
def test_everybody_reads_what_is_public_and_no_more(s3_server: LocalS3, bucket: str, prefix: str) -> None:
    store, stranger = s3_server.store(bucket, prefix), s3_server.store(bucket, prefix, anonymous=True)
    for key in (*PUBLIC, *PRIVATE):
        store.put(key, b"1")
    assert stranger.missing([*PUBLIC, *PRIVATE]) == {*PUBLIC, *PRIVATE}
    assert allow_reading(store, "a.example.org") is None
    assert {key for key, blob in stranger.get_many([*PUBLIC, *PRIVATE]) if blob is not None} == {*PUBLIC}
    assert stranger.missing([*PUBLIC, *PRIVATE]) == {*PRIVATE}
    with pytest.raises(NotFound):
        stranger.get("a.example.org/nothing")
    assert forbid_reading(store, "a.example.org") is None
    assert stranger.missing([*PUBLIC]) == {*PUBLIC}
    assert store.policy() is None


def allow_foreign(store: S3Store, directories: list[str]) -> None:
    """The policy of somebody else."""
    foreign = {
        "Sid": "foreign",
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{store.place.bucket}/{name}/*" for name in directories],
    }
    store.set_policy(json.dumps({"Version": "2012-10-17", "Statement": [foreign]}))


def test_a_policy_that_is_full_says_what_to_do(s3_server: LocalS3, bucket: str) -> None:
    store = s3_server.store(bucket)
    allow_foreign(store, [f"{number:0100}" for number in range(130)])
    with pytest.raises(StoreError, match="no room for another repository") as caught:  # noqa: PT012
        for number in range(20):
            assert allow_reading(store, f"n{number}.example.org") is None
    assert caught.value.hint
    there = _sids(store)
    assert 3 < len(there) < 20
    assert forbid_reading(store, "n0.example.org") is None
    assert _sids(store) == [there[0], *there[2:]]


def test_the_statements_of_others_are_kept(s3_server: LocalS3, bucket: str) -> None:
    store = s3_server.store(bucket)
    allow_foreign(store, ["foreign"])
    for name in ("a.example.org", "b.example.org", "a.example.org"):
        assert allow_reading(store, name) is None
    assert allow_reading(s3_server.store(bucket, "prefix"), "a.example.org") is None
    sids = _sids(store)
    assert len(sids) == len(set(sids)) == 4
    assert sids[0] == "foreign"
    assert all(sid.startswith("stratus") and sid.isalnum() for sid in sids[1:])
    assert forbid_reading(store, "a.example.org") is None
    assert _sids(store) == [sids[0], *sids[2:]]
    assert forbid_reading(store, "a.example.org") is None


def test_where_it_may_not_be_set_it_is_given_back_for_an_administrator(s3_server: LocalS3, bucket: str) -> None:
    stranger = s3_server.store(bucket, anonymous=True)
    text = allow_reading(stranger, "a.example.org")
    assert text is not None
    assert json.loads(text)["Statement"][0]["Resource"] == [
        f"arn:aws:s3:::{bucket}/a.example.org/*",
        f"arn:aws:s3:::{bucket}/info/*",
    ]
    s3_server.store(bucket).set_policy(text)
    s3_server.store(bucket).put(PUBLIC[0], b"1")
    assert stranger.get(PUBLIC[0]).data == b"1"


def test_stores_that_are_no_buckets_are_left_alone() -> None:
    assert allow_reading(MemoryStore(), "a.example.org") is None
    assert forbid_reading(MemoryStore(), "a.example.org") is None


def _sids(store: S3Store) -> list[str]:
    return [statement["Sid"] for statement in json.loads(store.policy() or "")["Statement"]]
