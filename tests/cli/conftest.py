"""The command line in this process, with configuration and keys of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stratus.cli.main import main
from tests.repositories import FQRN, keys


@dataclass(frozen=True, slots=True)
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """The only JSON value that was printed."""
        return json.loads(self.out)

    @property
    def jsons(self) -> list[Any]:
        """The JSON values, one a line."""
        return [json.loads(line) for line in self.lines]


Run = Callable[..., Result]


@pytest.fixture
def stratus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; fails the test unless it comes to ``code``."""
    monkeypatch.setenv("STRATUS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("STRATUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))

    def run(*words: str | Path, code: int = 0) -> Result:
        capsys.readouterr()
        ended = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert ended == code, captured
        return Result(ended, captured.out, captured.err)

    return run


@pytest.fixture
def repository(stratus: Run, tmp_path: Path) -> str:
    """An empty repository that is configured."""
    keys().save(tmp_path / "keys")
    stratus("create", FQRN, tmp_path / "store", "--keys", tmp_path / "keys")
    return FQRN


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory to be published."""
    top = tmp_path / "tree"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "tool").write_text("#!/bin/sh\necho tool\n")
    (top / "bin" / "tool").chmod(0o755)
    (top / "README").write_text("read me\n")
    (top / "latest").symlink_to("bin/tool")
    return top


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a mount forks."""
    line = [sys.executable, "-m", "stratus", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """Where to mount; skipped where that is impossible."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be opened: {error}")
    directory = tmp_path / "mnt"
    directory.mkdir()
    yield directory
    command("umount", directory)


@contextmanager
def serving(*more: str) -> Iterator[str]:
    """The URL of a server for all that is configured."""
    line = [sys.executable, "-m", "stratus", "serve", "--functions", "--port", "0", "--workers", "1", *more]
    with subprocess.Popen(line, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        said = next(line for line in server.stdout if line.startswith("serving at "))
        try:
            yield said.split()[-1].removesuffix("/cvmfs")
        finally:
            server.terminate()
            server.wait(30)


@dataclass(frozen=True, slots=True)
class Alice:
    """Who has a key for ``/sw``, and nothing else."""

    stratus: Run
    url: str
    key: Path
    config: Path
    patch: pytest.MonkeyPatch

    def __call__(self, *words: str | Path, code: int = 0) -> Result:
        """With her own configuration."""
        with self.patch.context() as patch:
            patch.setenv("STRATUS_CONFIG", str(self.config))
            return self.stratus(*words, code=code)


def audited(stratus: Run, repository: str, path: str) -> list[Any]:
    """The audit trail, once it tells of a refusal for this path: entries are written after the answer was sent."""
    until = time.monotonic() + 20
    while True:
        found: list[Any] = stratus("audit", repository, "--json").jsons
        if any(entry["outcome"] == "refused" and entry.get("path") == path for entry in found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


@pytest.fixture
def alice(stratus: Run, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alice]:
    key, config = tmp_path / "alice.pem", tmp_path / "alice.toml"
    stratus("key", "create", f"{repository}:/sw", "--writer", "alice", "--out", key)
    with serving() as url:
        config.write_text(
            f'[repositories."{repository}"]\nstore = "{url}/cvmfs"\napi = "{url}"\nwriter_key = "{key}"\n'
            f'public_key = "{tmp_path / "keys" / f"{repository}.pub"}"\n'
        )
        yield Alice(stratus, url, key, config, monkeypatch)
