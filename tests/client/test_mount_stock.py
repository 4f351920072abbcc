"""Repositories that the stock tools wrote look as the stock client shows them."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId
from tests import stock
from tests.client.conftest import Mounted
from tests.client.trees import Snapshot


class StockSource:
    """A MountSource; the chain of trust is not looked at."""

    host = "file:///stock"

    def __init__(self, repository: stock.StockRepository) -> None:
        self.fqrn = repository.fqrn
        self._repository = repository

    def latest(self) -> Snapshot:
        return self.trust(self._repository.read(".cvmfspublished"))

    def trust(self, manifest: bytes) -> Snapshot:
        lines = manifest.split(b"\n--\n")[0].decode().splitlines()
        fields = {line[0]: line[1:] for line in lines}
        return Snapshot(int(fields["S"]), Digest.parse(fields["C"]), int(fields["B"]), int(fields["D"]))

    def fetch(self, object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        return compression.unpack(self._repository.stored(object_id), size)


def shown(top: Path) -> dict[bytes, os.stat_result]:
    """Everything below a directory that listings show."""
    found = {}
    start = os.fsencode(top)
    for directory, directories, files in os.walk(start):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)  # noqa: PTH118 (bytes)
            found[path[len(start) :]] = os.lstat(path)
    return found


def check(path: bytes, status: os.stat_result, expected: dict[str, Any]) -> None:
    assert oct(status.st_mode) == expected["mode"]
    assert (status.st_uid, status.st_gid) == (expected["uid"], expected["gid"])
    assert (status.st_nlink, status.st_mtime_ns) == (expected["nlink"], expected["mtime_ns"])
    if expected["size"] is not None:
        assert status.st_size == expected["size"]
    if "target" in expected:
        assert os.fsencode(Path(os.fsdecode(path)).readlink()) == base64.b64decode(expected["target"])
    if "rdev" in expected:
        assert [os.major(status.st_rdev), os.minor(status.st_rdev)] == expected["rdev"]
    if "sha256" in expected:
        assert hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() == expected["sha256"]
    for name, value in expected.items():
        if name.startswith("user."):
            assert os.getxattr(path, name).decode() == value


def compare(top: Path, expected: dict[bytes, dict[str, Any]]) -> None:
    found = shown(top)
    assert found.keys() == expected.keys()
    for path, status in found.items():
        check(os.fsencode(top) + path, status, expected[path])


@pytest.mark.parametrize("name", stock.NAMES)
def test_a_stock_repository(name: str, mounted: Mounted, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path / "stock")
    mounted.repository = StockSource(repository)
    mounted.start()
    compare(mounted.directory, repository.entries())
    for attribute, value in repository.listing["xattrs_of_root"].items():
        if attribute != "user.nclg":  # how many are loaded depends on what was looked at
            assert os.getxattr(mounted.directory, attribute).decode() == value


@pytest.mark.parametrize(("name", "tag"), [("sample", "v1"), ("sample", "v2")])
def test_snapshots_below_the_hidden_directory(name: str, tag: str, mounted: Mounted, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path / "stock")
    mounted.repository = StockSource(repository)
    mounted.start()
    compare(mounted / f".cvmfs/snapshots/{tag}", repository.entries(tag))
