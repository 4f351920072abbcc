from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3

from stratus.formats import change_file, messages
from stratus.formats.changes import Put
from stratus.formats.entries import Entry, Kind
from stratus.formats.messages import CHANGE_SET_TYPE, TOKEN_HEADER, LeaseGranted, LeaseRequest
from stratus.formats.receipt import Receipt
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey
from tests.cli.conftest import Run
from tests.functions.desk import of_changes


@pytest.fixture
def server(repository: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "stratus", "serve", "--functions", "--port", "0", "--workers", "1"]
    with subprocess.Popen(line, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        yield server
        server.kill()


def url_of(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        found = re.fullmatch(r"serving at (http://127\.0\.0\.1:[0-9]+)/cvmfs\n", line)
        if found is not None:
            return found[1]
    assert server.stderr is not None
    raise AssertionError(server.stderr.read())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_static_repositories_and_the_api_are_behind_one_port(server: subprocess.Popen[str], repository: str) -> None:
    url = url_of(server)
    with urllib3.PoolManager(timeout=30) as pool:
        assert pool.request("GET", f"{url}/cvmfs/{repository}/.cvmfspublished").status == 200
        assert pool.request("GET", f"{url}/cvmfs/.stratus/{repository}/settings.json").status == 404
        assert pool.request("GET", f"{url}/api/v1/openapi.json").json()["openapi"].startswith("3.")
        status = pool.request("GET", f"{url}/api/v1/repositories/{repository}")
        assert status.status == 200
        assert status.json()["repository"] == repository
        assert pool.request("GET", f"{url}/api/v1/repositories/no.such.repository").status == 404
        assert pool.request("GET", f"{url}/elsewhere").headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(server: subprocess.Popen[str], number: int, code: int) -> None:
    url_of(server)
    workers = children(server.pid)
    assert workers
    server.send_signal(number)
    assert server.wait(20) == code
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_no_worker_outlives_it(server: subprocess.Popen[str]) -> None:
    url_of(server)
    workers = children(server.pid)
    server.kill()
    server.wait()
    end = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_writer_with_a_key_publishes_and_listeners_hear_of_it(
    stratus: Run, server: subprocess.Popen[str], repository: str, tmp_path: Path
) -> None:
    stratus("key", "create", repository, "--writer", "alice", "--out", tmp_path / "alice.pem")
    key = WriterKey.load(tmp_path / "alice.pem")
    base = f"{url_of(server)}/api/v1/repositories/{repository}"
    with urllib3.PoolManager(timeout=60) as pool, ThreadPoolExecutor() as threads:

        def ask(method: str, target: str, body: bytes, **headers: str) -> urllib3.BaseHTTPResponse:
            signed = sign(method, base + target, headers, body, key, datetime.now(UTC))
            return pool.request(method, base + target, body=body, headers=signed)

        heard = threads.submit(pool.request, "GET", f"{base}/notifications?after=1&wait=25")
        wish = messages.pack(LeaseRequest(path="/sw"))
        assert pool.request("POST", f"{base}/leases", body=wish).status == 401
        granted = ask("POST", "/leases", wish)
        assert granted.status == 201, granted.data
        lease = messages.parse(granted.data, LeaseGranted)
        body = change_file.pack(of_changes(lease, [Put(Entry(b"/sw", Kind.DIRECTORY, 0o755, 0, 0, 4096, 1))]))
        target = f"/change-sets/{lease.id}?path=/sw"
        queued = ask("POST", target, body, **{"Content-Type": CHANGE_SET_TYPE, TOKEN_HEADER: lease.token})
        assert queued.status == 202, queued.data
        receipt = ask("GET", f"/change-sets/{lease.id}/receipt?wait=25", b"")
        assert Receipt.parse(receipt.data).state == "published", receipt.data
        assert heard.result().json()["revision"] == 2
    assert stratus("ls", repository).lines == ["sw"]


def test_functions_need_keys(stratus: Run, repository: str, tmp_path: Path) -> None:
    for key in (tmp_path / "keys").iterdir():
        key.unlink()
    assert "keys" in stratus("serve", "--functions", code=2).err
