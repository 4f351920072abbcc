"""Writers with nothing but a key, at a bucket on Ceph, which takes any bytes: uploads are staged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.formats.records import Settings
from stratus.testing.ceph_server import LocalCeph
from tests.cli.conftest import mountpoint, tree  # noqa: F401 (fixtures)
from tests.writers import whole_path
from tests.writers.bucket import Bucket, serving_bucket

SMALL_CHUNKS = Settings(chunk_minimum=10_000, chunk_average=20_000, chunk_maximum=40_000, catalog_weight=50)


@pytest.fixture
def bucket(ceph_server: LocalCeph, tmp_path: Path) -> Iterator[Bucket]:
    with serving_bucket(ceph_server, tmp_path, SMALL_CHUNKS) as found:
        yield found


def test_the_whole_path_with_nothing_but_a_key(bucket: Bucket) -> None:
    whole_path.publishes_with_nothing_but_a_key(bucket)
    whole_path.publishes_a_large_change_set(bucket)


def test_a_mounted_client_sees_what_a_stranger_with_a_key_publishes(
    bucket: Bucket,
    mountpoint: Path,  # noqa: F811
    tree: Path,  # noqa: F811
) -> None:
    whole_path.is_seen_by_a_mounted_client(bucket, mountpoint, tree)


def test_no_wrong_bytes_come_in(bucket: Bucket) -> None:
    whole_path.lets_no_wrong_bytes_in(bucket, staged=True)
