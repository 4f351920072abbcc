from __future__ import annotations

from pathlib import Path

from stratus import config
from tests.cli.conftest import Run
from tests.repositories import FQRN, keys


def test_create_writes_keys_and_configuration_and_prints_those_of_clients(stratus: Run, tmp_path: Path) -> None:
    result = stratus("create", FQRN, tmp_path / "store")
    directory = config.keys_directory()
    names = {f"{FQRN}{suffix}" for suffix in (".key", ".crt", ".pub", ".masterkey")}
    assert {file.name for file in directory.iterdir()} == names
    assert config.repositories()[FQRN].store == f"file://{tmp_path}/store"
    assert f"CVMFS_PUBLIC_KEY={directory / FQRN}.pub" in result.out
    assert "CVMFS_SERVER_URL=http://127.0.0.1:8000/cvmfs/@fqrn@" in result.out
    assert "CVMFS_HTTP_PROXY=DIRECT" in result.out
    assert f"stratus mount http://127.0.0.1:8000/cvmfs/{FQRN} DIRECTORY" in result.out
    assert f"{FQRN}.masterkey in a safe place" in result.out
    assert stratus("ls", FQRN).out == ""


def test_keys_that_are_there_are_used(stratus: Run, tmp_path: Path) -> None:
    keys().save(tmp_path / "keys")
    result = stratus("create", FQRN, tmp_path / "store", "--keys", tmp_path / "keys")
    assert f"used the keys in {tmp_path / 'keys'}" in result.out
    assert (tmp_path / "keys" / f"{FQRN}.pub").read_bytes() == keys().public_key


def test_settings_are_those_that_were_asked_for(stratus: Run, tmp_path: Path) -> None:
    keys().save(tmp_path / "keys")
    limits = ("--chunk-min", "1M", "--chunk-avg", "2M", "--chunk-max", "4194304")
    others = ("--hash", "shake128", "--compression", "none", "--ttl", "60", "--no-gc", "--keys", str(tmp_path / "keys"))
    created = stratus("create", FQRN, tmp_path / "store", *limits, *others, "--json").json
    assert created["repository"] == FQRN
    assert created["revision"] == 1
    info = stratus("info", FQRN, "--json").json
    assert (info["hash"], info["ttl"], info["garbage_collectable"]) == ("shake128", 60, False)
    assert {name: info["settings"][name] for name in ("hash", "compression")} == {
        "hash": "shake128",
        "compression": "none",
    }
    chunks = [info["settings"][f"chunk_{limit}"] for limit in ("minimum", "average", "maximum")]
    assert chunks == [1 << 20, 2 << 20, 4 << 20]


def test_limits_that_cannot_be_are_refused_before_anything_is_written(stratus: Run, tmp_path: Path) -> None:
    stratus("create", FQRN, tmp_path / "store", "--chunk-min", "8M", "--chunk-avg", "4M", code=2)
    stratus("create", FQRN, tmp_path / "store", "--chunk-min", "many", code=2)
    stratus("create", "nodots", tmp_path / "store", code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_is_created_once(stratus: Run, repository: str, tmp_path: Path) -> None:
    result = stratus("create", repository, tmp_path / "store", "--keys", tmp_path / "keys", code=2)
    assert "already" in result.err
