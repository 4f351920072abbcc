"""Upload grants: what may be asked for, and what may be put by them where the API takes the bytes itself."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from msgspec.structs import replace

from stratus.errors import LeaseLost, NotPermitted
from stratus.formats import change_file, messages
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.key_record import Quota
from stratus.formats.messages import MOST_GRANTS, Grants, GrantsRequest, LeaseGranted, UploadGrant, Wanted
from stratus.functions.contract import Caller, Event, Reply
from stratus.functions.grants import Upload, permit_upload
from stratus.trust.identity import Identity
from tests.functions.desk import LAYOUT, Desk, caller, new_desk, new_key, of, problem
from tests.repositories import FQRN

HELLO = ObjectId(Algorithm.SHA1.digest(Compression.ZLIB.pack(b"hello")))
SIZE = len(Compression.ZLIB.pack(b"hello"))


@pytest.fixture
def desk() -> Desk:
    return new_desk()


def ask(desk: Desk, lease: LeaseGranted, /, *objects: tuple[str, int], **more: Any) -> Reply:
    body = messages.pack(GrantsRequest(tuple(Wanted(*one) for one in objects)))
    return desk.ask("lease.grants", body, **{**of(lease), **more})


def granted(desk: Desk, lease: LeaseGranted, *objects: tuple[str, int]) -> Grants:
    reply = ask(desk, lease, *objects)
    assert reply.status == 200, reply
    return messages.parse(reply.body, Grants)


def upload(desk: Desk, lease: LeaseGranted, grant: UploadGrant, /, **changed: str) -> Upload:
    """What the API lets be put by a grant."""
    name = urlsplit(grant.url).path.removeprefix("objects/")
    given = {**dict(parse_qsl(urlsplit(grant.url).query)), "id": lease.id, "object": name}
    headers = dict(grant.headers)
    given |= {"lease": headers["Stratus-Lease"], "grant": headers["Stratus-Grant"]}
    return permit_upload(Event("upload", "", FQRN, {**given, **changed}), desk.store)


def test_what_is_there_is_said_and_the_rest_is_granted(desk: Desk) -> None:
    lease = desk.lease()
    there = desk.keep(b"there")
    found = granted(desk, lease, (str(there), 10), (str(HELLO), SIZE), (str(HELLO), SIZE))
    assert found.present == (str(there),)
    (grant,) = found.grants
    assert (grant.id, grant.expires) == (str(HELLO), desk.clock.now + timedelta(minutes=15))
    assert upload(desk, lease, grant) == Upload(LAYOUT.object(HELLO), SIZE, HELLO)


def test_nothing_is_stored_for_a_grant(desk: Desk) -> None:
    lease = desk.lease()
    before = [stat.key for stat in desk.store.list("")]
    granted(desk, lease, (str(HELLO), SIZE))
    assert [stat.key for stat in desk.store.list("")] == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../.cvmfspublished",
        "data/00/11",
        f"{HELLO}H",
        f"{HELLO}X",
        f"{HELLO}M",
        f"{HELLO}Z",
        f"{HELLO}CC",
        str(HELLO).upper(),
        f"{HELLO}-rmd160",
        f"{HELLO}-shake128",
        str(HELLO)[:-1],
        f"{HELLO}/..",
        "change-set/../x",
        "\udc80" * 40,
    ],
)
def test_only_objects_of_the_repository_can_be_granted(desk: Desk, name: str) -> None:
    assert problem(ask(desk, desk.lease(), (name, 10))).status == 400


@pytest.mark.parametrize("letter", ["", "P", "C"])
def test_files_parts_and_catalogs_can_be(desk: Desk, letter: str) -> None:
    one = ObjectId(HELLO.digest, Suffix(letter))
    (grant,) = granted(desk, lease := desk.lease(), (str(one), 10)).grants
    assert upload(desk, lease, grant).key == LAYOUT.object(one)


def test_a_request_has_its_limits(desk: Desk) -> None:
    lease = desk.lease()
    assert problem(ask(desk, lease, *[(str(HELLO), 1)] * (MOST_GRANTS + 1))).code == "usage"
    assert problem(ask(desk, lease, (str(HELLO), -1))).code == "usage"
    assert "in one piece" in problem(ask(desk, lease, (str(HELLO), (5 << 30) + 1))).detail
    assert "in one piece" in problem(ask(desk, lease, ("change-set", 64 << 21))).detail
    assert problem(desk.ask("lease.grants", b"[]", **of(lease))).code == "usage"
    assert granted(desk, lease) == Grants((), ())


def test_only_who_holds_the_lease_gets_grants(desk: Desk) -> None:
    lease = desk.lease()
    assert problem(ask(desk, lease, (str(HELLO), 1), lease=f"{lease.id}.{'x' * 32}")).status == 403
    assert problem(ask(desk, lease, (str(HELLO), 1), caller=caller(desk.store, "bob"))).status == 403
    assert problem(ask(desk, lease, (str(HELLO), 1), path="/other")).status == 410
    desk.ask("lease.release", **of(lease))
    assert problem(ask(desk, lease, (str(HELLO), 1))).status == 410
    assert problem(ask(desk, lease, (str(HELLO), 1), id="../" + "a" * 17)).status == 400


def test_after_the_submission_there_are_no_more(desk: Desk) -> None:
    lease = desk.lease()
    (grant,) = granted(desk, lease, (str(HELLO), SIZE)).grants
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))
    assert problem(ask(desk, lease, (str(HELLO), 1))).status == 410
    with pytest.raises(LeaseLost):
        upload(desk, lease, grant)


# -- uploads through the API


def test_a_grant_is_good_for_just_what_it_says(desk: Desk) -> None:
    lease = desk.lease()
    (grant,) = granted(desk, lease, (str(HELLO), SIZE)).grants
    other = str(ObjectId(Algorithm.SHA1.digest(b"x")))
    size, expires, mac = dict(grant.headers)["Stratus-Grant"].split(".")
    changes: list[dict[str, str]] = [
        {"object": other},
        {"object": "change-set"},
        {"object": "../../keys/x"},
        {"object": "\udc80"},
        {"grant": f"{int(size) + 1}.{expires}.{mac}"},
        {"grant": f"{size}.{int(expires) + 10_000}.{mac}"},
        {"grant": f"x.{expires}.{mac}"},
        {"grant": ""},
        {"grant": f"{size}.{expires}"},
        {"grant": f"{size}.{expires}.{'0' * 64}"},
        {"grant": f"{size}.{expires}.\udcff"},
        {"lease": f"{lease.id}.{'x' * 32}"},
        {"lease": ""},
    ]
    for changed in changes:
        with pytest.raises(NotPermitted):
            upload(desk, lease, grant, **changed)
    assert upload(desk, lease, grant).size == SIZE


def test_a_grant_runs_out(desk: Desk) -> None:
    lease = desk.lease(ttl=7200)
    (grant,) = granted(desk, lease, (str(HELLO), SIZE)).grants
    desk.clock.advance(minutes=15)
    upload(desk, lease, grant)
    desk.clock.advance(seconds=1)
    with pytest.raises(NotPermitted, match="run out"):
        upload(desk, lease, grant)


def test_a_grant_ends_with_its_lease(desk: Desk) -> None:
    lease, other = desk.lease("/sw"), desk.lease("/other")
    (grant,) = granted(desk, lease, (str(HELLO), SIZE)).grants
    with pytest.raises(NotPermitted):
        upload(desk, other, grant, path="/other", lease=other.token)
    desk.ask("lease.release", **of(lease))
    with pytest.raises(LeaseLost):
        upload(desk, lease, grant)


def test_a_change_set_is_staged_through_the_api(desk: Desk) -> None:
    lease = desk.lease()
    packed = change_file.pack(desk.change_set(lease, {"a": b"1"}))
    (grant,) = granted(desk, lease, ("change-set", len(packed))).grants
    found = upload(desk, lease, grant)
    assert found == Upload(LAYOUT.staged(lease.id, "change-set"), len(packed), None)
    desk.store.put(found.key, packed)
    digest = change_file.digest(packed)
    for _ in range(2):  # also if the first answer was lost
        assert desk.ask("submit", staged=digest, **of(lease)).status == 202
        assert desk.store.missing([found.key])


# -- quotas


def limited(desk: Desk, **quota: int) -> Desk:
    record = replace(new_key(desk.store)[1], quota=Quota(**quota))
    desk.caller = Caller(Identity.of_key(record))
    return desk


def test_uploads_count_when_they_are_granted(desk: Desk) -> None:
    limited(desk, bytes_per_day=100, objects_per_day=3)
    lease = desk.lease()
    names = [str(ObjectId(Algorithm.SHA1.digest(b"%d" % n))) for n in range(4)]
    granted(desk, lease, (names[0], 60))
    refused = ask(desk, lease, (names[1], 41))
    assert (problem(refused).code, refused.status) == ("quota_exceeded", 429)
    assert re.fullmatch(r"[0-9]{1,5}", dict(refused.headers)["Retry-After"])
    granted(desk, lease, (str(desk.keep(b"there")), 10**6))  # what is there is free
    granted(desk, lease, (names[1], 20), (names[2], 20))
    assert problem(ask(desk, lease, (names[3], 0))).code == "quota_exceeded"
    with_another_key = Caller(Identity.of_key(new_key(desk.store)[1]))
    assert ask(desk, lease, (names[3], 10**6), caller=with_another_key).status == 200


def test_a_key_has_only_so_many_leases(desk: Desk) -> None:
    limited(desk, leases=2)
    first, _ = desk.lease("/1"), desk.lease(None)
    before = {stat.key for stat in desk.store.list("")}
    refused = desk.ask("lease.acquire", messages.pack(messages.LeaseRequest(path="/2")))
    assert (problem(refused).code, refused.status) == ("quota_exceeded", 429)
    assert {stat.key for stat in desk.store.list("")} == before
    desk.ask("lease.release", **of(first))
    desk.publish("/2", {"a": b"1"})
    desk.publish("/3", {"a": b"1"})  # what is published does not count


def test_a_lease_that_is_refused_for_another_reason_does_not_count(desk: Desk) -> None:
    limited(desk, leases=2)
    desk.lease("/1")
    for _ in range(3):
        asked = messages.pack(messages.LeaseRequest(path="/1"))
        assert problem(desk.ask("lease.acquire", asked)).code == "lease_held"
    desk.lease("/2")


def test_ten_thousand_leases_by_one_key_end_at_its_limit(desk: Desk) -> None:
    taken = [desk.lease(f"/{number}").id for number in range(Quota().leases)]
    before = {stat.key for stat in desk.store.list("")}
    for number in range(20):
        asked = messages.pack(messages.LeaseRequest(path=f"/more/{number}"))
        assert problem(desk.ask("lease.acquire", asked)).code == "quota_exceeded"
    assert {stat.key for stat in desk.store.list("")} == before
    assert len(set(taken)) == 500
    assert desk.ask("lease.acquire", asked, caller=caller(desk.store, "bob")).status == 201
