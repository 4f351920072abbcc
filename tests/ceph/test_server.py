from __future__ import annotations

import os

import pytest
import urllib3

from stratus.errors import StratusError
from stratus.testing import ceph_server as module
from stratus.testing.ceph_server import LocalCeph


def test_all_daemons_and_the_directory_are_gone_when_it_stops(ceph_server: LocalCeph) -> None:
    with LocalCeph() as server:  # a second one beside the first
        server.create_bucket("bucket")
        server.store("bucket").put("a", b"1")
        directory = server._directory
        daemons = [daemon.pid for daemon in server._daemons]
        assert len(daemons) == 3
        assert (directory / "ceph.conf").exists()
    assert not directory.exists()
    for pid in daemons:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with urllib3.PoolManager(retries=False) as pool, pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", server.endpoint)


def test_without_the_packages_it_is_said_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(module, "_SYSTEM", ())
    with pytest.raises(StratusError, match=r"ceph-mon.*is missing") as caught:
        LocalCeph().start()
    assert caught.value.hint == "apt-get install --no-install-recommends ceph-common ceph-mon ceph-osd radosgw"


def test_a_server_that_does_not_start_says_why(ceph_server: LocalCeph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONFIGURATION", "nonsense")
    with pytest.raises(StratusError, match="Ceph did not start: ceph-mon"):
        LocalCeph().start()
