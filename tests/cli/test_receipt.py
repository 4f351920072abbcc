from __future__ import annotations

from pathlib import Path

from stratus.formats.changes import Remove
from tests.cli.conftest import Run, serving
from tests.cli.submitting import submit


def test_a_receipt_is_waited_for(stratus: Run, repository: str, tmp_path: Path) -> None:
    change_set = submit(tmp_path / "store", repository)
    assert "waits for a committer" in stratus("receipt", repository, change_set, code=3).err
    assert "is being published" in stratus("lease", "list", repository).out
    with serving():
        assert stratus("receipt", repository, change_set, "--wait", "30").out.startswith("revision 2 of")


def test_a_change_set_that_was_rejected_says_why(stratus: Run, repository: str, tmp_path: Path) -> None:
    change_set = submit(tmp_path / "store", repository, Remove(b"/sw/none", recursive=False))
    stratus("tag", "add", repository, "v1")
    refused = stratus("receipt", repository, change_set, code=1).err
    assert "/sw/none" in refused
    found = stratus("receipt", repository, change_set, "--json", code=1).json
    assert (found["state"], found["error"]["path"]) == ("rejected", "/sw/none")


def test_an_unknown_change_set_is_an_error(stratus: Run, repository: str) -> None:
    assert "no change set" in stratus("receipt", repository, "a" * 20, code=5).err
