"""A Ceph for the tests of this directory; they are skipped where its packages are not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from secrets import token_hex

import pytest

from stratus.errors import StratusError
from stratus.stores.s3 import S3Store
from stratus.testing.ceph_server import LocalCeph

BUCKET = "stratus-tests"


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[LocalCeph]:
    """A Ceph on loopback with the bucket of ``ceph_store``; each process of a parallel run has its own."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(LocalCeph())
        except StratusError as error:
            if "not installed" not in error.message:
                raise
            pytest.skip(f"{error.message}; {error.hint}")
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def ceph_store(ceph_server: LocalCeph) -> S3Store:
    """An empty prefix of a bucket."""
    return ceph_server.store(BUCKET, token_hex(6))
