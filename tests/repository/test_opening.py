from __future__ import annotations

from pathlib import Path

import pytest

import stratus
from stratus import config
from stratus.config import RepositoryConfig
from stratus.errors import BadName, NoSuchRepository, NotPermitted, UsageError
from stratus.repository.opening import split_url
from stratus.stores.directory import DirectoryStore
from tests.repositories import FQRN, keys, new_repository


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRATUS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    new_repository(DirectoryStore(tmp_path / "store"))
    return tmp_path / "store"


def test_a_configured_name_is_opened_with_its_keys(store: Path, tmp_path: Path) -> None:
    keys().save(tmp_path / "keys")
    config.remember(FQRN, RepositoryConfig(store=f"file://{store}", keys=str(tmp_path / "keys")))
    assert stratus.open(FQRN).manifest.revision == 1


@pytest.mark.parametrize("form", ["file://{}/" + FQRN, "{}/" + FQRN, "{}/" + FQRN + "/"])
def test_a_url_or_path_is_opened_with_a_given_key(store: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "key.pub").write_bytes(keys().public_key)
    url = form.format(store)
    assert stratus.open(url, tmp_path / "key.pub").manifest.revision == 1
    assert stratus.open(url, keys().public_key).manifest.revision == 1


def test_keys_are_found_where_keys_are_kept(store: Path) -> None:
    with pytest.raises(UsageError, match="public key"):
        stratus.open(f"{store}/{FQRN}")
    keys().save(config.keys_directory())
    assert stratus.open(f"{store}/{FQRN}").manifest.revision == 1


def test_a_name_that_nearly_fits_is_suggested(store: Path) -> None:
    config.remember(FQRN, RepositoryConfig(store=str(store)))
    with pytest.raises(NoSuchRepository) as caught:
        stratus.open("tset.example.org")
    assert caught.value.hint == f"did you mean {FQRN}?"


def test_an_unreadable_key_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotPermitted, match="nonesuch"):
        stratus.open(f"{store}/{FQRN}", tmp_path / "nonesuch.pub")


def test_nothing_at_the_url_is_said_with_the_url(store: Path) -> None:
    with pytest.raises(NoSuchRepository, match="missing"):
        stratus.open(f"{store}/missing/{FQRN}", keys().public_key).refresh()


def test_urls_are_split_at_the_repositorys_name() -> None:
    assert split_url("s3://bucket/pre/fix/a.example.org?endpoint=http://h:1") == (
        "s3://bucket/pre/fix?endpoint=http://h:1",
        "a.example.org",
    )
    assert split_url("http://host/cvmfs/a.example.org") == ("http://host/cvmfs", "a.example.org")
    with pytest.raises(BadName):
        split_url("http://host/cvmfs/nodots")
