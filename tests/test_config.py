from __future__ import annotations

from pathlib import Path

import pytest

from stratus import config
from stratus.config import RepositoryConfig
from stratus.errors import StratusError, UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "some" / "config.toml"
    monkeypatch.setenv("STRATUS_CONFIG", str(path))
    return path


def test_without_a_file_nothing_is_configured(file: Path) -> None:
    assert config.repositories() == {}
    assert not file.exists()


def test_what_is_remembered_reads_back_beside_what_was_there(file: Path) -> None:
    odd = RepositoryConfig(store='s3://bucket/"quoted"?endpoint=http://127.0.0.1:8333', keys="/keys/\\x")
    config.remember("a.example.org", odd)
    config.remember("b.example.org", RepositoryConfig(store="file:///srv"))
    assert config.repositories() == {"a.example.org": odd, "b.example.org": RepositoryConfig(store="file:///srv")}


def test_what_is_forgotten_is_gone_and_forgetting_twice_is_no_error(file: Path) -> None:
    config.remember("a.example.org", RepositoryConfig(store="file:///a"))
    config.remember("b.example.org", RepositoryConfig(store="file:///b"))
    config.forget("a.example.org")
    config.forget("a.example.org")
    assert set(config.repositories()) == {"b.example.org"}


@pytest.mark.parametrize(
    "text", ["not toml", '[repositories."a.example.org"]\ncolour = "red"', '[repositories."a.example.org"]\nstore = 7']
)
def test_a_file_that_says_something_else_is_refused_by_name(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        config.repositories()


def test_a_file_that_cannot_be_written_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATUS_CONFIG", "/proc/nonesuch/config.toml")
    with pytest.raises(StratusError) as caught:
        config.remember("a.example.org", RepositoryConfig())
    assert "STRATUS_CONFIG" in caught.value.hint


def test_the_users_directories_are_used_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRATUS_CONFIG", raising=False)
    monkeypatch.delenv("STRATUS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert config.keys_directory() == tmp_path / "config" / "stratus" / "keys"
    assert config.cache_directory() == tmp_path / "cache" / "stratus"
    assert config.remember("a.example.org", RepositoryConfig()) == tmp_path / "config" / "stratus" / "config.toml"
