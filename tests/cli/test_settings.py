from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratus.cli.settings import SETTINGS
from stratus.formats.records import Settings
from tests.cli.conftest import Alice, Run, audited

HOOK = "https://hooks.example.org/services/s3cret?key=pssst"
OTHER = "http://127.0.0.1:8080/other"


def test_all_settings_are_shown_with_what_they_take(stratus: Run, repository: str) -> None:
    lines = stratus("settings", repository).lines
    assert [line.split()[0] for line in lines] == list(SETTINGS)
    assert "4M" in lines[2]
    assert "sha1, rmd160 or shake128" in lines[0]
    shown = stratus("settings", repository, "--json").json
    assert set(shown) == set(Settings.__struct_fields__) - {"nonce", "gen"}
    assert (shown["ttl"], shown["webhooks"]) == (240, [])


def test_a_change_is_in_force_for_the_next_publish(stratus: Run, repository: str, tree: Path) -> None:
    said = stratus("settings", repository, "ttl=60", "compression=none", "garbage_collectable=no").lines
    assert said == ["compression: fast -> none", "ttl: 240 -> 60", "garbage_collectable: yes -> no"]
    stratus("publish", repository, tree)
    info = stratus("info", repository, "--json").json
    assert (info["ttl"], info["garbage_collectable"]) == (60, False)
    found = stratus("stat", f"{repository}:/README", "--json").jsons[1]
    assert found["content"]["compression"] == "none"
    assert stratus("check", repository, "--data").code == 0


def test_settings_that_belong_together_are_changed_together(stratus: Run, repository: str) -> None:
    sizes = ("chunk_minimum=32M", "chunk_average=64M", "chunk_maximum=128M")
    assert "cannot be" in stratus("settings", repository, sizes[0], code=2).err
    changed = stratus("settings", repository, *sizes, "--json").json
    assert [changed[f"chunk_{limit}"] >> 20 for limit in ("minimum", "average", "maximum")] == [32, 64, 128]
    assert stratus("settings", repository, *sizes).lines == ["that is how it is already"]


def test_webhooks_are_added_and_removed(stratus: Run, repository: str) -> None:
    stratus("settings", repository, f"webhooks+={HOOK}")
    stratus("settings", repository, f"webhooks+={OTHER}", f"webhooks+={HOOK}")
    assert stratus("settings", repository, "--secrets", "--json").json["webhooks"] == [HOOK, OTHER]
    stratus("settings", repository, f"webhooks-={HOOK}")
    assert stratus("settings", repository, "--secrets", "--json").json["webhooks"] == [OTHER]
    again = stratus("settings", repository, f"webhooks-={HOOK}", code=2).err
    assert "none of the repository's" in again
    assert "--secrets" in again
    stratus("settings", repository, f"webhooks={HOOK}")
    assert stratus("settings", repository, "--secrets", "--json").json["webhooks"] == [HOOK]
    stratus("settings", repository, "webhooks=")
    assert stratus("settings", repository, "--json").json["webhooks"] == []


def test_what_is_secret_of_a_webhook_is_shown_only_when_asked_for(stratus: Run, repository: str) -> None:
    shown = stratus("settings", repository, f"webhooks+={HOOK}", f"webhooks+={OTHER}").out
    assert shown == "webhooks: none -> https://hooks.example.org/… http://127.0.0.1:8080/…\n"
    for words in (("settings",), ("settings", "--json"), ("info", "--json"), ("audit", "--json")):
        said = stratus(words[0], repository, *words[1:]).out
        assert "s3cret" not in said, words
        assert "pssst" not in said, words
    assert HOOK in stratus("settings", repository, "--secrets").out


def test_the_owners_changes_are_in_the_audit_trail(stratus: Run, repository: str) -> None:
    stratus("settings", repository, "ttl=60", "auto_tags=no")
    stratus("settings", repository, "ttl=60")
    found = [entry for entry in stratus("audit", repository, "--json").jsons if entry["kind"] == "settings"]
    assert [(entry["id"], entry["detail"], entry["proof"]) for entry in found] == [
        ("ttl", "240 -> 60", "owner"),
        ("auto_tags", "yes -> no", "owner"),
    ]


def test_the_owner_chooses_what_is_written_into_the_audit_trail(alice: Alice, stratus: Run, repository: str) -> None:
    stratus("settings", repository, "audit=refusals")
    alice("lease", "acquire", f"{repository}:/sw")
    alice("lease", "acquire", f"{repository}:/other", code=6)
    found = audited(stratus, repository, "/other")
    assert [entry["kind"] for entry in found if entry.get("writer") == "alice"] == ["lease.acquire"]
    assert found[-1]["outcome"] == "refused"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ttl", "to be what"),
        ("ttl=soon", "seconds"),
        ("ttl=-1", "seconds"),
        ("ttl=0", "without looking"),
        ("ttl+=1", "one value"),
        ("hash=md5", "sha1, rmd160 or shake128"),
        ("compression=", "fast, upstream or none"),
        ("auto_tags=maybe", "yes or no"),
        ("chunk_maximum=2G", "too large"),
        ("chunk_avg=8M", "did you mean chunk_average?"),
        ("nonce=1", "there are hash, compression"),
        ("gen=5", "there is no setting gen"),
        ("webhooks+=ftp://x.example.org/", "no URL"),
        ("webhooks+=https://", "no URL"),
        ("webhooks+=", "no URL"),
        ("webhooks=https://x.example.org:99999/", "no URL"),
        ("webhooks=https://x.example.org/a b", "no URL"),
        ("webhooks+=https://me:pssst@x.example.org/", "never sent"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    stratus: Run, repository: str, tmp_path: Path, change: str, said: str
) -> None:
    file = tmp_path / "store" / ".stratus" / repository / "settings.json"
    before = file.read_bytes()
    refused = stratus("settings", repository, "auto_tag_limit=7", change, code=2).err
    assert said in refused
    assert "pssst" not in refused
    assert file.read_bytes() == before


def test_it_is_settings_of_a_repository_that_are_changed(stratus: Run, repository: str, tmp_path: Path) -> None:
    assert "leave out the path" in stratus("settings", f"{repository}:/sw", code=2).err
    assert "never changes" in stratus("settings", f"{repository}@1", code=2).err
    assert "given twice" in stratus("settings", repository, "ttl=1", "ttl=2", code=2).err
    assert "no settings" in stratus("settings", tmp_path / "no.example.org", code=1).err
    shown = stratus("settings", repository, "hash=md5", "--json", code=2)
    assert json.loads(shown.out)["code"] == "usage"
