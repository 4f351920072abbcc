from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_publish_prints_a_receipt(stratus: Run, repository: str, tree: Path) -> None:
    shown = stratus("publish", f"{repository}:/tool", tree, "--tag", "v1", "--message", "the first").out
    assert shown.startswith(f"revision 2 (v1) of {repository} in ")
    assert "5 added, 0 changed, 0 removed" in shown
    assert "2 new, 0 were there already" in shown
    assert stratus("ls", f"{repository}@v1:/tool").lines == ["README", "bin", "latest"]


def test_the_receipt_for_programs_has_the_schema_of_receipts(stratus: Run, repository: str, tree: Path) -> None:
    receipt = stratus("publish", f"{repository}:/tool", tree, "--json").json
    assert receipt["schema"] == 1
    assert (receipt["state"], receipt["revision"], receipt["path"]) == ("published", 2, "/tool")
    assert receipt["entries"] == {"added": 5, "changed": 0, "removed": 0}
    assert receipt["error"] is None


def test_replace_removes_what_the_source_does_not_have(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree)
    (tree / "README").unlink()
    stratus("publish", repository, tree)
    assert "README" in stratus("ls", repository).lines
    stratus("publish", repository, tree, "--replace")
    assert "README" not in stratus("ls", repository).lines


def test_owner_components_and_catalog_are_as_asked_for(
    stratus: Run, repository: str, tree: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "tool.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, "tool-1.2")
    words = ("--owner", "7:8", "--strip-components", "1", "--catalog")
    stratus("publish", f"{repository}:/tool", archive, *words)
    found = stratus("stat", f"{repository}:/tool/README", "--json").jsons
    assert found[0]["catalog"] == "/tool"
    assert (found[1]["uid"], found[1]["gid"]) == (7, 8)


def test_an_archive_may_come_on_standard_input(
    stratus: Run, repository: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "tool.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(tree, ".")
    with archive.open() as opened:
        monkeypatch.setattr("sys.stdin", opened)
        stratus("publish", f"{repository}:/tool", "-")
    assert stratus("cat", f"{repository}:/tool/README").out == "read me\n"


def test_a_dry_run_says_what_would_change_and_changes_nothing(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree)
    (tree / "README").unlink()
    (tree / "bin" / "tool").write_text("changed\n")
    words = ("publish", repository, tree, "--replace", "--dry-run")
    shown = stratus(*words).lines
    assert [line.split() for line in shown[:2]] == [["remove", "/README"], ["put", "/bin/tool"]]
    assert "0 added, 1 changed, 1 removed" in "".join(shown)
    forecast = stratus(*words, "--json").json
    assert forecast["changes"] == [{"change": "remove", "path": "/README"}, {"change": "put", "path": "/bin/tool"}]
    assert forecast["entries"] == {"added": 0, "changed": 1, "removed": 1}
    assert stratus("info", repository, "--json").json["revision"] == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("{name}", "/no/such/file"), 1),
        (("{name}@v1", "{tree}"), 2),
        (("{name}", "{tree}", "--owner", "7"), 2),
        (("{name}", "{tree}", "--owner", "no-such-user-here:0"), 2),
        (("{name}", "{tree}", "--tag", "not a tag"), 2),
        (("{name}", "{tree}", "--catalog"), 2),
        (("{name}", "{tree}", "--keys", "/no/such/keys"), 6),
    ],
)
def test_what_cannot_be_published_is_said_with_its_code(
    stratus: Run, repository: str, tree: Path, words: tuple[str, ...], code: int
) -> None:
    result = stratus("publish", *(word.format(name=repository, tree=tree) for word in words), code=code)
    assert result.err.startswith("stratus: ")
    assert "\nhint: " in result.err
    assert stratus("info", repository, "--json").json["revision"] == 1


def test_what_is_published_otherwise_than_it_was_is_warned_about(stratus: Run, repository: str, tree: Path) -> None:
    os.link(tree / "README", tree / "bin" / "README")
    assert "warning: " in stratus("publish", repository, tree).err


def test_rm_removes_files_and_with_r_directories(stratus: Run, repository: str, tree: Path) -> None:
    stratus("publish", repository, tree)
    stratus("rm", f"{repository}:/README", "--message", "not needed")
    assert stratus("rm", f"{repository}:/bin", code=1).err
    receipt = stratus("rm", "-r", f"{repository}:/bin", "--json").json
    assert receipt["entries"]["removed"] == 2
    assert stratus("ls", repository).lines == ["latest"]
    assert "not needed" in stratus("log", repository).out


def test_rm_leaves_the_root_alone(stratus: Run, repository: str) -> None:
    assert "stratus destroy" in stratus("rm", "-r", repository, code=2).err
