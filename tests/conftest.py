"""What several packages' tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from secrets import token_hex

import hypothesis
import pytest

# A machine that is busy makes slow inputs; that says nothing of the tests.
hypothesis.settings.register_profile("stratus", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("stratus")

# Where the tests are started in the background, interrupts may be ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("stratus.testing.store_kit")

from stratus.stores.s3 import S3Store  # noqa: E402 - what is imported cannot be rewritten any more
from stratus.testing.s3_server import LocalS3  # noqa: E402

BUCKET = "stratus-tests"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[LocalS3]:
    """A SeaweedFS on loopback with the bucket of ``s3_store``; each process of a parallel run has its own."""
    with LocalS3() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_store(s3_server: LocalS3) -> S3Store:
    """An empty prefix of a bucket."""
    return s3_server.store(BUCKET, token_hex(6))
