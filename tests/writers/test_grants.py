"""Writers with nothing but a key, at a bucket on SeaweedFS: whose server looks at check sums, or as if it did not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.formats.records import Settings
from stratus.testing.s3_server import LocalS3
from tests.cli.conftest import mountpoint, tree  # noqa: F401 (fixtures)
from tests.writers import whole_path
from tests.writers.bucket import Bucket, serving_bucket

SMALL_CHUNKS = Settings(chunk_minimum=10_000, chunk_average=20_000, chunk_maximum=40_000, catalog_weight=50)


@pytest.fixture
def bucket(s3_server: LocalS3, tmp_path: Path) -> Iterator[Bucket]:
    with serving_bucket(s3_server, tmp_path, SMALL_CHUNKS) as found:
        yield found


@pytest.fixture(params=["direct", "staged"])
def either(bucket: Bucket, request: pytest.FixtureRequest) -> Bucket:
    if request.param == "staged":
        bucket.stage()
    return bucket


def test_the_whole_path_with_nothing_but_a_key(either: Bucket) -> None:
    whole_path.publishes_with_nothing_but_a_key(either)


def test_objects_that_have_another_hash_are_staged(s3_server: LocalS3, tmp_path: Path) -> None:
    with serving_bucket(s3_server, tmp_path, Settings(hash="shake128", compression="none")) as bucket:
        whole_path.publishes_with_nothing_but_a_key(bucket)


def test_a_large_change_set_goes_by_a_grant(bucket: Bucket) -> None:
    whole_path.publishes_a_large_change_set(bucket)


def test_a_mounted_client_sees_what_a_stranger_with_a_key_publishes(
    bucket: Bucket,
    mountpoint: Path,  # noqa: F811
    tree: Path,  # noqa: F811
) -> None:
    whole_path.is_seen_by_a_mounted_client(bucket, mountpoint, tree)


def test_no_wrong_bytes_come_in(either: Bucket, request: pytest.FixtureRequest) -> None:
    whole_path.lets_no_wrong_bytes_in(either, staged="staged" in request.node.name)


def test_a_grant_that_ran_out_is_replaced(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_path.takes_an_upload_again_after_its_grant_ran_out(bucket, monkeypatch)
