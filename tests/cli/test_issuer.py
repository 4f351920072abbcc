from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, serving
from tests.issuers import AUDIENCE
from tests.issuers import serving as issuing

URL = "https://gitlab.example.org"
ADD = ("--issuer", URL, "--audience", "us", "--claim", "project_path=lhcb/*")


def test_rules_are_made_listed_and_removed(stratus: Run, repository: str) -> None:
    assert "believes no tokens" in stratus("issuer", "list", repository).out
    made = stratus("issuer", "add", f"{repository}:/lhcb", f"{repository}:/x", *ADD, "--max-leases", "3", "--json").json
    (rule,) = made["rules"]
    assert (rule["grants"], rule["claims"], rule["quota"]["leases"]) == (["/lhcb", "/x"], {"project_path": "lhcb/*"}, 3)
    assert rule["writer"] == "{sub}@gitlab.example.org"
    said = stratus("issuer", "add", repository, *ADD, "--claim", "ref_protected=true", "--writer", "{project_path}").out
    assert "project_path=lhcb/*, ref_protected=true" in said
    assert len(stratus("issuer", "list", repository).lines) == 2
    stratus("issuer", "remove", repository, URL, "--rule", rule["id"])
    (listed,) = stratus("issuer", "list", repository, "--json").jsons
    assert [one["writer"] for one in listed["rules"]] == ["{project_path}"]
    assert "lets anybody in" in stratus("issuer", "remove", repository, URL).out
    assert stratus("issuer", "list", repository, "--json").jsons == []
    kinds = [entry["kind"] for entry in stratus("audit", repository, "--json").jsons]
    assert kinds == ["issuer.add", "issuer.add", "issuer.remove", "issuer.remove"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--issuer", URL, "--audience", "us"), "everybody"),
        (("--issuer", URL, "--claim", "a=b"), "audience"),
        (("--issuer", "http://gitlab.example.org", "--audience", "us", "--claim", "a=b"), "https"),
        (("--issuer", URL, "--jwks-uri", "http://x.example.org", "--audience", "us", "--claim", "a=b"), "https"),
        (("--issuer", URL, "--audience", "us", "--claim", "a"), "NAME=TEXT"),
        (("--audience", "us", "--claim", "a=b"), "--issuer"),
    ],
)
def test_what_would_let_in_too_many_is_refused(
    stratus: Run, repository: str, words: tuple[str, ...], said: str
) -> None:
    refused = stratus("issuer", "add", repository, *words, code=2)
    assert said in refused.err
    assert stratus("issuer", "list", repository, "--json").jsons == []


def test_a_job_publishes_with_its_token_alone(
    stratus: Run, repository: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the token of an issuer to what a client sees; then the issuer is removed."""
    monkeypatch.setenv("STRATUS_CONFIG", str(tmp_path / "config.toml"))
    with issuing() as issuer:
        claims = ("--claim", "repository=lhcb/*", "--writer", "{repository}@ci")
        stratus("issuer", "add", f"{repository}:/lhcb", "--issuer", issuer.url, "--audience", AUDIENCE, *claims)
        token = tmp_path / "token"
        token.write_text(issuer.token(repository="lhcb/software"))
        with serving() as url:
            road = ("--api", url, "--token-file", token)
            published = stratus("publish", f"{repository}:/lhcb/v1", tree, *road, "--json").json
            assert (published["writer"], published["state"]) == ("lhcb/software@ci", "published")
            assert stratus("cat", f"{repository}:/lhcb/v1/README").out == "read me\n"
            assert "is not for /other" in stratus("publish", f"{repository}:/other", tree, *road, code=6).err
            token.write_text(issuer.token(repository="atlas/software"))
            assert "no rule" in stratus("publish", f"{repository}:/lhcb/v2", tree, *road, code=6).err
            monkeypatch.setenv("STRATUS_TOKEN", issuer.token(repository="lhcb/software"))
            monkeypatch.setenv("STRATUS_API", url)
            assert stratus("publish", f"{repository}:/lhcb/v2", tree, "--json").json["writer"] == "lhcb/software@ci"
            stratus("issuer", "remove", repository, issuer.url)
            assert "not believed here" in stratus("publish", f"{repository}:/lhcb/v3", tree, code=6).err
    assert "one too many" in stratus("publish", repository, tree, *road, "--writer-key", "x", code=2).err


def test_a_portal_publishes_with_a_gateway_key(stratus: Run, repository: str, tree: Path, tmp_path: Path) -> None:
    made = stratus("key", "create", f"{repository}:/sw", "--writer", "portal", "--gateway", "portal-1", "--json").json
    assert (made["kind"], made["gateway"], made["public_key"]) == ("gateway", "portal-1", "")
    file = Path(made["file"])
    assert file == tmp_path / "keys" / f"{repository}-portal-1.gw"
    secret = file.read_text().split()[2]
    theirs = tmp_path / "theirs.gw"
    theirs.write_bytes(file.read_bytes())
    theirs.chmod(0o600)
    with serving() as url:
        road = ("--api", url, "--writer-key", theirs)
        assert stratus("publish", f"{repository}:/sw", tree, *road, "--json").json["writer"] == "portal"
        assert "is not for /x" in stratus("publish", f"{repository}:/x", tree, *road, code=6).err
        theirs.write_text("plain_text portal-1 another\n")
        assert "does not hold" in stratus("publish", f"{repository}:/sw", tree, *road, code=4).err
    assert secret not in stratus("audit", repository, "--json").out
    taken = tmp_path / "old.gw"
    taken.write_text("plain_text classic s3cret\n")
    taken.chmod(0o600)
    said = stratus("key", "create", repository, "--writer", "old", "--gateway", taken).out
    assert "gateway/classic" in said
    assert "s3cret" not in said
    again = stratus("key", "create", repository, "--writer", "old", "--gateway", taken, code=5)
    assert "s3cret" not in again.err
    assert taken.exists()
