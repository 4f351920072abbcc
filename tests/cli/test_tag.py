from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def names(stratus: Run, repository: str) -> dict[str, int]:
    listed = stratus("tag", "list", repository, "--json").jsons
    return {tag["name"]: tag["revision"] for tag in listed if not tag["name"].startswith(("trunk", "generic"))}


def test_tags_are_added_for_any_revision_listed_and_removed(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree, "--tag", "v1")
    (tree / "README").unlink()
    stratus("publish", repository, tree, "--replace")
    stratus("tag", "add", repository, "newest", "--message", "with a message")
    stratus("tag", "add", f"{repository}@2", "second")
    stratus("tag", "add", f"{repository}@v1", "again")
    assert names(stratus, repository) == {"v1": 2, "newest": 3, "second": 2, "again": 2}
    assert "with a message" in stratus("tag", "list", repository).out
    assert stratus("tag", "remove", repository, "v1", "--json").json["state"] == "published"
    assert "v1" not in names(stratus, repository)


def test_what_tags_cannot_be_is_said(stratus: Run, repository: str) -> None:
    stratus("tag", "add", repository, "v1")
    assert "already" in stratus("tag", "add", repository, "v1", code=1).err
    assert "moves by itself" in stratus("tag", "add", repository, "trunk", code=2).err
    assert "no tag v2" in stratus("tag", "remove", repository, "v2", code=1).err
    assert stratus("tag", "add", f"{repository}@99", "v3", code=1).err
    stratus("tag", code=2)
