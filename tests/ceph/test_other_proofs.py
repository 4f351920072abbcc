"""Writers with a token or a shared secret, at a bucket on Ceph."""

from __future__ import annotations

from pathlib import Path

from stratus.testing.ceph_server import LocalCeph
from tests.writers import other_proofs
from tests.writers.bucket import serving_bucket


def test_the_whole_path_with_a_token_or_a_gateway_key(ceph_server: LocalCeph, tmp_path: Path) -> None:
    with serving_bucket(ceph_server, tmp_path) as bucket:
        other_proofs.publishes_with_a_token(bucket)
        other_proofs.publishes_with_a_gateway_key(bucket)
