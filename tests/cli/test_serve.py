from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import urllib3

from tests.cli.conftest import Run


def test_serve_shows_what_is_configured_until_it_is_interrupted(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree)
    with subprocess.Popen(
        [sys.executable, "-m", "stratus", "serve", "--port", "0"],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == f"/cvmfs/{repository}\n"
            found = re.fullmatch(r"serving at (http://127\.0\.0\.1:[0-9]+/cvmfs)\n", server.stdout.readline())
            assert found is not None
            with urllib3.PoolManager() as pool:
                assert pool.request("GET", f"{found[1]}/{repository}/.cvmfspublished").status == 200
            key = Path(os.environ["STRATUS_CONFIG"]).parent / "keys" / f"{repository}.pub"
            names = stratus("ls", f"{found[1]}/{repository}", "--public-key", key).lines
            assert names == ["README", "bin", "latest"]
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130


def test_serve_needs_something_to_serve(stratus: Run) -> None:
    assert "stratus create" in stratus("serve", code=2).err
