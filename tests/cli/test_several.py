"""Two servers for one store."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from stratus.formats import messages
from stratus.formats.messages import LeaseRequest
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey
from tests.cli.conftest import Run, serving


def test_a_request_that_one_server_had_is_refused_by_the_other(stratus: Run, repository: str, tmp_path: Path) -> None:
    stratus("key", "create", repository, "--writer", "alice", "--out", tmp_path / "alice.pem")
    key = WriterKey.load(tmp_path / "alice.pem")
    with ExitStack() as stack:
        servers = [stack.enter_context(serving("--several")) for _ in range(2)]
        pool = stack.enter_context(urllib3.PoolManager(retries=False, timeout=20))
        target = f"/api/v1/repositories/{repository}/leases"
        body = messages.pack(LeaseRequest(path="/sw"))
        host = {"host": "api.example.org"}
        headers = sign("POST", f"https://api.example.org{target}", host, body, key, datetime.now(UTC))
        statuses = [pool.request("POST", url + target, body=body, headers=headers).status for url in servers * 2]
        assert statuses == [201, 401, 401, 401]
    refused = stratus("audit", repository, "--refused", "--json").jsons
    assert [entry["status"] for entry in refused] == [401, 401, 401]
