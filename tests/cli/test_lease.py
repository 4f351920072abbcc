from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Alice, Result, Run

ID = re.compile(r"[a-z2-7]{20}")


def lease_of(result: Result) -> tuple[str, str]:
    lease, token = result.out.split()
    assert ID.fullmatch(lease)
    assert token.startswith(f"{lease}.")
    return lease, token


def test_scripts_hold_leases_through_the_api(alice: Alice, repository: str, tree: Path) -> None:
    lease, token = lease_of(alice("lease", "acquire", f"{repository}:/sw/tool", "--ttl", "600"))
    refused = alice("publish", f"{repository}:/sw", tree, code=3).err
    assert "/sw/tool is leased by alice" in refused
    (listed,) = alice("lease", "list", repository, "--json").jsons
    assert (listed["id"], listed["path"], listed["writer"], listed["ttl"]) == (lease, "/sw/tool", "alice", 600)
    assert "--token" in alice("lease", "release", repository, lease, code=2).err
    assert (
        "somebody else's" in alice("lease", "release", repository, lease, "--token", f"{lease}.{'x' * 30}", code=6).err
    )
    alice("lease", "release", repository, lease, "--token", token)
    lease, _ = lease_of(alice("lease", "acquire", f"{repository}:/sw"))
    alice("lease", "break", repository, lease)
    assert "there is no lease" in alice("lease", "break", repository, lease, code=2).err
    alice("publish", f"{repository}:/sw", tree)


def test_the_owner_sees_and_ends_leases_in_the_store_itself(stratus: Run, repository: str, tree: Path) -> None:
    lease, _ = lease_of(stratus("lease", "acquire", f"{repository}:/sw"))
    shown = stratus("lease", "list", repository).out
    assert re.match(rf"{lease}  /sw  until \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  \S+ on \S+\n", shown)
    assert "/sw is leased by" in stratus("publish", f"{repository}:/sw/x", tree, code=3).err
    assert "/sw is leased by" in stratus("lease", "acquire", f"{repository}:/", "--wait", "0.2", code=3).err
    stratus("lease", "break", repository, lease)
    lease, _ = lease_of(stratus("lease", "acquire", f"{repository}:/sw"))
    stratus("lease", "release", repository, lease)
    assert stratus("lease", "list", repository, "--json").out == ""
    assert "there is no lease" in stratus("lease", "release", repository, lease, code=2).err
    assert "from 10 to" in stratus("lease", "acquire", f"{repository}:/sw", "--ttl", "5", code=2).err
