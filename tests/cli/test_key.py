from __future__ import annotations

import stat
from pathlib import Path

from stratus.trust.writer_keys import WriterKey
from tests.cli.conftest import Run


def test_a_key_is_made_listed_rotated_and_revoked(stratus: Run, repository: str, tmp_path: Path) -> None:
    made = stratus("key", "create", f"{repository}:/lhcb", f"{repository}:/shared/ci", "--writer", "ci", "--json").json
    assert (made["writer"], made["grants"], made["state"], made["expires"]) == (
        "ci",
        ["/lhcb", "/shared/ci"],
        "active",
        None,
    )
    file = Path(made["file"])
    assert file.parent == tmp_path / "keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert WriterKey.load(file).id == made["id"]

    other = stratus("key", "rotate", repository, made["id"], "--out", tmp_path / "ci.pem", "--json").json
    assert WriterKey.load(tmp_path / "ci.pem").id == other["id"] != made["id"]
    assert (other["writer"], other["grants"], other["replaces"]["state"]) == ("ci", ["/lhcb", "/shared/ci"], "revoked")

    assert stratus("key", "revoke", repository, other["id"], "--json").json["state"] == "revoked"
    listed = stratus("key", "list", repository, "--json").jsons
    assert {key["id"]: key["state"] for key in listed} == {made["id"]: "revoked", other["id"]: "revoked"}


def test_people_read_what_a_key_is_for_and_where_it_is(stratus: Run, repository: str, tmp_path: Path) -> None:
    assert "key create" in stratus("key", "list", repository).out
    file = tmp_path / "alice.pem"
    made = stratus(
        "key", "create", repository, "--writer", "alice", "--expires", "30", "--comment", "her laptop", "--out", file
    )
    key = WriterKey.load(file).id
    assert f"key {key} of alice for / of {repository}, until 20" in made.lines[0]
    assert str(file) in made.out
    assert "writer_key" in made.out
    (line,) = stratus("key", "list", repository).lines
    assert line.split() == [key, "until", *line.split()[2:4], "alice", "/", "her", "laptop"]
    rotated = stratus("key", "rotate", repository, key, "--overlap", "1")
    assert f"the old key {key} ends 20" in rotated.lines[1]
    assert f"the key {key} of alice is revoked" in stratus("key", "revoke", repository, key).out
    states = {line.split()[0]: line.split()[1] for line in stratus("key", "list", repository).lines}
    assert states.pop(key) == "revoked"
    assert list(states.values()) == ["until"]


def test_nothing_is_left_where_no_key_could_be_made(stratus: Run, repository: str, tmp_path: Path) -> None:
    file = tmp_path / "new.pem"
    assert "no key" in stratus("key", "rotate", repository, "a" * 20, "--out", file, code=2).err
    assert not file.exists()
    stratus("key", "create", repository, "--writer", "alice", "--out", file)
    before = file.read_bytes()
    assert "there already" in stratus("key", "create", repository, "--writer", "alice", "--out", file, code=2).err
    assert file.read_bytes() == before
    assert len(stratus("key", "list", repository).lines) == 1


def test_what_cannot_be_meant_is_said(stratus: Run, repository: str, tmp_path: Path) -> None:
    stratus("key", "create", repository, code=2)
    two = f"{tmp_path / 'store' / repository}:/a"
    assert "one repository" in stratus("key", "create", repository, two, "--writer", "alice", code=2).err
    assert "too many" in stratus("key", "create", repository, "--writer", "a", "--expires", "1e9", code=2).err
    assert "somebody's" in stratus("key", "create", repository, "--writer", " ", code=2).err
    assert "key list" in stratus("key", "revoke", repository, "../settings.json", code=2).err
    stratus("key", "create", f"{repository}@1", "--writer", "alice", code=2)
    none = tmp_path / "nothing" / "no.example.org"
    assert "no repository" in stratus("key", "create", none, "--writer", "alice", code=1).err
    assert list(tmp_path.rglob("*.pem")) == []


def test_a_key_has_a_quota(stratus: Run, repository: str) -> None:
    usual = stratus("key", "create", repository, "--writer", "a", "--json").json["quota"]
    assert usual == {"leases": 500, "bytes_per_day": None, "objects_per_day": None, "requests_per_minute": None}
    limits = ("--max-leases", "3", "--max-bytes", "2G", "--max-objects", "9", "--max-requests", "60")
    made = stratus("key", "create", repository, "--writer", "b", *limits, "--json").json
    assert list(made["quota"].values()) == [3, 2 << 30, 9, 60]
    assert stratus("key", "rotate", repository, made["id"], "--json").json["quota"] == made["quota"]
    assert "too few" in stratus("key", "create", repository, "--writer", "c", "--max-leases", "0", code=2).err
    assert "nothing" in stratus("key", "create", repository, "--writer", "c", "--max-bytes", "0", code=2).err
