"""ls, cat, stat, log, info."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.repositories import keys


@pytest.fixture
def published(stratus: Run, repository: str, tree: Path) -> str:
    """Revision 2, tagged v1, of the tree; revision 3 has another README."""
    os.utime(tree / "README", ns=(0, 1_000_000_001))
    stratus("publish", repository, tree, "--tag", "v1", "--message", "the first", "--owner", "7:8")
    (tree / "README").write_text("read me again\n")
    stratus("publish", repository, tree, "--message", "the second", "--owner", "7:8")
    return repository


def test_ls_lists_names(stratus: Run, published: str) -> None:
    assert stratus("ls", published).lines == ["README", "bin", "latest"]
    assert stratus("ls", f"{published}:/bin/tool").lines == ["tool"]


def test_ls_long_is_like_that_of_the_shell(stratus: Run, published: str) -> None:
    readme, directory, link = (line.split() for line in stratus("ls", "-l", f"{published}@v1").lines)
    assert readme == ["-rw-r--r--", "1", "7", "8", "8", "1970-01-01", "00:00", "README"]
    assert directory[:4] == ["drwxr-xr-x", "2", "7", "8"]
    assert (link[0], link[7:]) == ("lrwxrwxrwx", ["latest", "->", "bin/tool"])


def test_ls_for_programs_is_one_object_a_line(stratus: Run, published: str) -> None:
    readme, directory, link = stratus("ls", "--json", f"{published}@v1").jsons
    assert (readme["path"], readme["kind"], readme["mode"], readme["mtime_ns"]) == (
        "/README",
        "file",
        "0644",
        1_000_000_001,
    )
    assert readme["content"]["hash"]
    assert (directory["kind"], link["target"]) == ("directory", "bin/tool")


def test_cat_writes_what_files_hold(stratus: Run, published: str) -> None:
    assert stratus("cat", f"{published}@v1:/README", f"{published}:/README").out == "read me\nread me again\n"


def test_cat_of_something_else_says_what_it_is(stratus: Run, published: str) -> None:
    assert "is a directory" in stratus("cat", f"{published}:/bin", code=1).err
    assert "it leads to bin/tool" in stratus("cat", f"{published}:/latest", code=1).err


def test_stat_tells_all(stratus: Run, published: str) -> None:
    shown = dict(line.split(maxsplit=1) for line in stratus("stat", f"{published}@v1:/README").lines)
    assert shown["kind"] == "file"
    assert shown["mode"] == "0644 -rw-r--r--"
    assert shown["owner"] == "7:8"
    assert shown["changed"] == "1970-01-01 00:00:01.000000001 UTC"
    assert shown["revision"] == "2"
    assert stratus("stat", published).lines[0].split() == ["path", "/"]


def test_a_path_that_is_mistyped_is_guessed(stratus: Run, published: str) -> None:
    result = stratus("stat", f"{published}:/READNE", code=2)
    assert result.err == "stratus: there is no /READNE in revision 3\nhint: did you mean /README?\n"


def test_log_shows_revisions_the_newest_first(stratus: Run, published: str) -> None:
    lines = stratus("log", published).lines
    assert [int(line.split()[0]) for line in lines] == [3, 2, 1]
    assert lines[1].endswith("(v1)  the first")
    assert len(stratus("log", published, "-n", "2").lines) == 2


def test_log_for_programs_names_writer_and_change_set(stratus: Run, published: str) -> None:
    newest = stratus("log", published, "--json").jsons[0]
    assert (newest["revision"], newest["message"]) == (3, "the second")
    assert newest["writer"]
    assert newest["change_set"]


def test_revisions_are_found_by_number_tag_and_time(stratus: Run, published: str) -> None:
    today = datetime.now(UTC).date().isoformat()
    for which in ("2", "v1"):
        assert stratus("cat", f"{published}@{which}:/README").out == "read me\n"
    assert stratus("cat", f"{published}@{today}:/README").out == "read me again\n"
    assert "has no tag v7" in stratus("ls", f"{published}@v7", code=2).err
    assert "has no revision 7" in stratus("ls", f"{published}@7", code=2).err


def test_info_counts_the_tree(stratus: Run, published: str) -> None:
    facts = stratus("info", published, "--json").json
    assert (facts["revision"], facts["hash"]) == (3, "sha1")
    assert (facts["counters"]["regular"], facts["counters"]["dir"], facts["counters"]["symlink"]) == (2, 2, 1)
    assert "whitelist        until " in stratus("info", published).out


def test_a_repository_is_read_by_path_and_public_key_alone(stratus: Run, published: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").unlink()
    url = f"{tmp_path}/store/{published}"
    assert "no public key" in stratus("ls", url, code=2).err
    key = ("--public-key", str(tmp_path / "keys" / f"{published}.pub"))
    assert stratus("ls", url, *key).lines == ["README", "bin", "latest"]
    other = tmp_path / "other.pub"
    other.write_bytes(keys("other.example.org").public_key)
    assert "not signed by a key that is trusted" in stratus("ls", url, "--public-key", other, code=4).err
