"""check, resign, list, destroy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from stratus import config
from tests.cli.conftest import Run
from tests.repositories import keys


def test_a_sound_repository_passes_the_check(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree, "--tag", "v1")
    assert stratus("check", repository).out.startswith(f"{repository}: 0 errors, 0 warnings in 1 catalog, 5 rows")
    summary = stratus("check", f"{repository}@v1", "--data", "--json").json
    assert (summary["error"], summary["warning"]) == (0, 0)
    assert summary["looked_at"]["rows"] == 5


def test_what_is_wrong_is_named_and_the_exit_code_is_4(
    stratus: Run, repository: str, tree: Path, tmp_path: Path
) -> None:
    stratus("publish", repository, tree)
    name: str = stratus("stat", f"{repository}:/README", "--json").jsons[1]["content"]["hash"]
    (tmp_path / "store" / repository / "data" / name[:2] / name[2:]).unlink()
    shown = stratus("check", repository, code=4).lines
    assert shown[0].endswith("[missing_object]")
    assert name in shown[0]
    assert "1 error" in shown[1]
    problem, summary = stratus("check", repository, "--json", code=4).jsons
    assert (problem["problem"]["code"], problem["problem"]["path"]) == ("missing_object", "/README")
    assert summary["error"] == 1


def test_resign_renews_the_whitelist(stratus: Run, repository: str) -> None:
    expires = datetime.fromisoformat(stratus("resign", repository, "--days", "90", "--json").json["expires"])
    assert timedelta(days=89) < expires - datetime.now(UTC) < timedelta(days=91)
    assert "is valid until" in stratus("resign", repository).out


def test_resign_needs_the_master_key(stratus: Run, repository: str, tmp_path: Path) -> None:
    (tmp_path / "keys" / f"{repository}.masterkey").unlink()
    assert f"{repository}.masterkey" in stratus("resign", repository, code=6).err


def test_list_shows_what_is_configured(stratus: Run, repository: str, tmp_path: Path) -> None:
    assert stratus("list").lines == [f"{repository}  file://{tmp_path}/store"]
    listed = stratus("list", "--json").json
    assert (listed["name"], listed["keys"]) == (repository, str(tmp_path / "keys"))


def test_list_says_where_it_looked_when_there_is_nothing(stratus: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "config.toml") in stratus("list").out


def test_destroy_wants_to_be_told_twice(stratus: Run, repository: str, tree: Path, tmp_path: Path) -> None:
    stratus("publish", repository, tree)
    assert "--yes" in stratus("destroy", repository, code=2).err
    assert stratus("ls", repository).lines
    assert "is gone" in stratus("destroy", repository, "--yes").out
    assert repository not in config.repositories()
    left = [file for file in (tmp_path / "store").rglob("*") if file.is_file() and repository in str(file)]
    assert left == []
    assert (tmp_path / "keys" / f"{repository}.pub").read_bytes() == keys().public_key


def test_only_whole_repositories_are_destroyed(stratus: Run, repository: str) -> None:
    stratus("destroy", f"{repository}:/a", "--yes", code=2)
    stratus("destroy", f"{repository}@1", "--yes", code=2)
    assert stratus("info", repository).out
