from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Alice, Run, audited


def test_the_owner_sees_who_did_what_and_who_was_refused(
    alice: Alice, stratus: Run, repository: str, tree: Path
) -> None:
    published = alice("publish", f"{repository}:/sw", tree, "--json").json
    alice("publish", f"{repository}:/other", tree, code=6)
    found = audited(stratus, repository, "/other")
    kinds = [entry["kind"] for entry in found if entry.get("writer") == "alice" and entry["outcome"] == "done"]
    assert [kinds[0], kinds[-1]] == ["lease.acquire", "submit"]
    assert {entry["id"] for entry in found if entry["kind"] == "submit"} == {published["id"]}
    (made,) = [entry for entry in found if entry["kind"] == "key.create"]
    assert made["proof"] == "owner"
    (refused,) = stratus("audit", repository, "--refused", "--json").jsons
    assert (refused["code"], refused["status"], refused["path"]) == ("not_permitted", 403, "/other")
    assert refused["host"] == "127.0.0.1"
    lines = stratus("audit", repository, "--writer", "alice", "--since", "0.5").lines
    assert len(lines) == len(kinds) + 1
    assert "lease.acquire" in lines[0]
    assert "refused not_permitted (403)" in lines[-1]
    assert "nothing of that" in stratus("audit", repository, "--writer", "bob").out


def test_what_cannot_be_meant_is_said(stratus: Run, repository: str) -> None:
    assert "never changes" in stratus("audit", f"{repository}@1", code=2).err
    assert "no number above 0" in stratus("audit", repository, "--since", "0", code=2).err


@pytest.mark.parametrize("verb", ["create", "rotate", "revoke"])
def test_what_the_owner_does_with_keys_is_in_it(stratus: Run, repository: str, verb: str, tmp_path: Path) -> None:
    made = stratus("key", "create", repository, "--writer", "ci", "--out", tmp_path / "ci.pem", "--json").json
    if verb != "create":
        stratus("key", verb, repository, made["id"])
    kinds = {entry["kind"] for entry in stratus("audit", repository, "--json").jsons}
    assert f"key.{verb}" in kinds
