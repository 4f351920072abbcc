"""Writers with a token or a shared secret, at a bucket on SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.testing.s3_server import LocalS3
from tests.writers import other_proofs
from tests.writers.bucket import Bucket, serving_bucket


@pytest.fixture
def bucket(s3_server: LocalS3, tmp_path: Path) -> Iterator[Bucket]:
    with serving_bucket(s3_server, tmp_path) as found:
        yield found


def test_the_whole_path_with_nothing_but_a_token(bucket: Bucket) -> None:
    other_proofs.publishes_with_a_token(bucket)


def test_the_whole_path_with_nothing_but_a_gateway_key(bucket: Bucket) -> None:
    other_proofs.publishes_with_a_gateway_key(bucket)
