"""Publishing through an API, as its users do: with a configuration of their own, or with flags alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Alice, Run


def test_a_writer_with_a_key_publishes_looks_and_removes(alice: Alice, repository: str, tree: Path) -> None:
    at = f"{repository}:/sw/tool"
    said = alice("publish", "--dry-run", at, tree).out
    assert "nothing was published" in said
    published = alice("publish", at, tree, "--json", "--message", "first").json
    assert (published["writer"], published["revision"], published["entries"]["added"]) == ("alice", 2, 6)
    assert alice("cat", f"{at}/README").out == "read me\n"
    assert alice("receipt", repository, published["id"], "--json").json == published
    assert alice("receipt", repository, published["id"]).out.startswith(f"revision 2 of {repository}")
    assert alice.stratus("receipt", repository, published["id"], "--json").json == published  # by the owner
    assert alice("queue", repository).lines == ["nothing waits", "nobody commits"]
    assert alice("queue", repository, "--json").json == {"entries": [], "committer": None}
    assert alice("lease", "list", repository).lines == ["nothing is leased"]
    assert alice("rm", "-r", at, "--json").json["entries"]["removed"] == 5
    assert "is not for /other" in alice("publish", f"{repository}:/other", tree, code=6).err
    assert "is not for /" in alice("tag", "add", repository, "v1", code=6).err
    assert alice("receipt", repository, "a" * 20, code=5).err.startswith("stratus: no change set")


def test_flags_go_before_the_environment_and_that_before_the_file(
    alice: Alice, stratus: Run, repository: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"{repository}:/sw"

    def writer(*flags: str | Path) -> str:
        found: str = stratus("publish", at, tree, "--json", *flags).json["writer"]
        return found

    assert "alice" not in writer()  # the owner commits here
    assert writer("--api", alice.url, "--writer-key", alice.key) == "alice"
    monkeypatch.setenv("STRATUS_API", alice.url)
    assert "alice" not in writer()  # without a key that is not enough
    monkeypatch.setenv("STRATUS_WRITER_KEY", str(alice.key))
    assert writer() == "alice"
    assert "alice" not in writer("--keys", alice.key.parent / "keys")
    monkeypatch.setenv("STRATUS_API", "http://127.0.0.1:1")
    assert writer("--api", alice.url) == "alice"
    assert "--keys" in stratus("publish", at, tree, "--keys", "k", "--api", alice.url, code=2).err


def test_a_key_is_all_that_a_writer_needs(alice: Alice, repository: str, tree: Path) -> None:
    alice.config.write_text("")  # nothing is known of the repository, not even where it is
    road = ("--api", alice.url, "--writer-key", alice.key)
    assert alice("publish", f"{repository}:/sw", tree, *road, "--json").json["revision"] == 2
    assert alice("lease", "list", repository, *road).lines == ["nothing is leased"]
    assert "nothing was published" in alice("publish", "--dry-run", f"{repository}:/sw", tree, *road).out
    assert "is configured" in alice("publish", f"{repository}:/sw", tree, code=1).err


def test_without_a_way_it_is_said_what_is_missing(stratus: Run, tree: Path, tmp_path: Path) -> None:
    place = f"{tmp_path}/store/some.example.org"
    assert "--writer-key" in stratus("publish", place, tree, code=2).err
    assert "STRATUS_WRITER_KEY" in stratus("publish", place, tree, "--api", "http://localhost", code=2).err
    assert "STRATUS_API" in stratus("publish", place, tree, "--writer-key", "key.pem", code=2).err
    refused = stratus("publish", place, tree, "--writer-key", "key.pem", "--api", "http://localhost", code=6)
    assert "cannot read the writer's key key.pem" in refused.err
