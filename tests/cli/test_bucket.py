"""The whole way on S3."""

from __future__ import annotations

import re
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.testing.s3_server import LocalS3
from tests.cli.conftest import Run
from tests.repositories import FQRN, keys


def test_a_repository_in_a_bucket_is_read_without_credentials_or_servers(
    stratus: Run, s3_server: LocalS3, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"cli-{token_hex(6)}"
    s3_server.create_bucket(bucket)
    keys().save(tmp_path / "keys")
    printed = stratus("create", FQRN, f"s3://{bucket}/some/where", "--keys", tmp_path / "keys").out
    assert f"CVMFS_SERVER_URL={s3_server.endpoint}/{bucket}/some/where/@fqrn@" in printed
    stratus("publish", f"{FQRN}:/tool", tree, "--tag", "v1")
    assert stratus("cat", f"{FQRN}:/tool/README").out == "read me\n"

    found = re.search(r"stratus mount (\S+) ", printed)
    assert found is not None
    public_key = ("--public-key", str(tmp_path / "keys" / f"{FQRN}.pub"))
    for name in s3_server.environment():
        monkeypatch.delenv(name)
    (tmp_path / "config.toml").rename(tmp_path / "away.toml")
    assert stratus("ls", f"{found[1]}@v1:/tool", *public_key).lines == ["README", "bin", "latest"]
    assert stratus("check", found[1], *public_key).out.startswith(f"{FQRN}: 0 errors")

    (tmp_path / "away.toml").rename(tmp_path / "config.toml")
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    stratus("destroy", FQRN, "--yes")
    stratus("ls", found[1], *public_key, code=1)
