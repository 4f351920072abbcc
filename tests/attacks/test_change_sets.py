"""What may come from a writer whose key is good: refused, written into the audit trail, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest

from stratus.formats import change_file, messages
from stratus.formats.audit import AuditEntry
from stratus.formats.changes import ChangeSet, Put, Remove
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.key_record import Quota
from stratus.formats.messages import (
    LARGEST_INLINE,
    Grants,
    GrantsRequest,
    LeaseGranted,
    LeaseRequest,
    Wanted,
)
from stratus.formats.paths import components
from stratus.trust.writer_keys import WriterKey
from tests.endpoints.asking import BASE, Api, problem, raw
from tests.functions.desk import LAYOUT, file, new_desk, new_key, of_changes
from tests.repositories import content

Answer = Callable[[], httpx.Response]
DATA = b"bytes that were granted"
NAME = str(ObjectId(Algorithm.SHA1.digest(DATA)))


class Room:
    """A repository behind an API with uploads, a writer who may lease ``/sw``, and what is in the store."""

    def __init__(self) -> None:
        self.desk = new_desk()
        self.api = Api(self.desk, new_key(self.desk.store)[0])

    def state(self) -> dict[str, bytes]:
        """Everything but the trail and the marks of what was seen."""
        notes = LAYOUT.audit(), LAYOUT.seen()
        return {
            stat.key: self.desk.store.get(stat.key).data
            for stat in self.desk.store.list("")
            if not stat.key.startswith(notes)
        }

    def trail(self) -> list[AuditEntry]:
        keys = sorted(stat.key for stat in self.desk.store.list(LAYOUT.audit()))
        return [AuditEntry.parse(self.desk.store.get(key).data) for key in keys]

    def refuses(self, kind: str, status: int, answer: Answer, writer: str = "alice") -> AuditEntry:
        """Asks, and gives what the trail says of it."""
        before, seen = self.state(), len(self.trail())
        reply = answer()
        assert (reply.status_code, problem(reply).status) == (status, status), reply.text
        assert self.state() == before
        (entry,) = self.trail()[seen:]
        assert (entry.kind, entry.status, entry.code) == (kind, status, problem(reply).code)
        assert (entry.writer, entry.outcome, entry.host) == (writer, "refused", "127.0.0.1")
        return entry

    def submit(self, lease: LeaseGranted, change_set: ChangeSet) -> Answer:
        return lambda: self.api.submit(lease, change_file.pack(change_set))


@pytest.fixture
def room() -> Room:
    return Room()


# -- change sets -----------------------------------------------------------------------------------------------------


def test_what_is_no_change_set_is_refused(room: Room) -> None:
    lease = room.api.lease()
    good = change_file.pack(room.desk.change_set(lease, {"a": b"1"}))
    for forged in (b"", b"{}", b"\0" * 1000, good[:-1], good[:40] + b"\xff" + good[41:], good + b"x", good * 2):
        room.refuses("submit", 422, partial(room.api.submit, lease, forged))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "a" * 20),
        ("repository", "other.example.org"),
        ("writer", "bob"),
        ("path", b"/swx"),
        ("path", b""),
        ("path", b"/sw/../x"),
    ],
)
def test_a_change_set_in_the_name_of_another_is_refused(room: Room, field: str, value: Any) -> None:
    lease = room.api.lease()
    forged = room.desk.change_set(lease, {"a": b"1"}, **{field: value})
    entry = room.refuses("submit", 422, room.submit(lease, forged))
    assert entry.id == lease.id


def test_an_oversized_change_set_is_refused_before_it_is_read(room: Room) -> None:
    lease = room.api.lease()
    oversized = bytes(LARGEST_INLINE + 1)
    room.refuses("submit", 413, lambda: room.api.submit(lease, oversized), writer="")  # the signature covers the body


OUTSIDE = [
    "/swx/a",
    "/other/a",
    "/sw/../other",
    "/sw/../../.cvmfspublished",
    "/sw//a",
    "/sw/./a",
    "/sw/a\0b",
    "/sw/" + "n" * 256,
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_change_outside_of_the_lease_is_refused(room: Room, path: str) -> None:
    lease = room.api.lease()
    room.desk.keep(b"1")
    room.refuses("submit", 422, room.submit(lease, of_changes(lease, [Put(file(path, b"1"))])))


def test_nothing_outside_of_the_lease_can_be_removed(room: Room) -> None:
    lease = room.api.lease()
    for path in (b"/", b"", b"/other", b"/sw/../other", b"/swx"):
        if components(path) or path == b"":
            room.refuses("submit", 422, room.submit(lease, of_changes(lease, [Remove(path, recursive=True)])))


def test_objects_that_nobody_has_stored_cannot_be_named(room: Room) -> None:
    lease = room.api.lease()
    room.refuses("submit", 422, room.submit(lease, of_changes(lease, [Put(file("/sw/a", b"never stored"))])))


def test_an_object_with_other_bytes_than_its_name_says_is_found_out(room: Room) -> None:
    """By whatever road it has come."""
    lease = room.api.lease()
    one = room.desk.keep(b"1")
    room.desk.store.put(LAYOUT.object(one), b"something else")
    room.refuses("submit", 422, room.submit(lease, of_changes(lease, [Put(file("/sw/a", b"1"))])))


def test_the_token_of_a_lease_that_was_released_is_of_no_use(room: Room) -> None:
    lease = room.api.lease()
    change_set = room.desk.change_set(lease, {"a": b"1"})
    fields = {"stratus-lease": lease.token}
    assert room.api.ask("DELETE", f"/leases/{lease.id}?path=/sw", headers=fields).status_code == 204
    room.refuses("submit", 410, room.submit(lease, change_set))
    asked = messages.pack(GrantsRequest((Wanted(NAME, len(DATA)),)))
    room.refuses("lease.grants", 410, lambda: ask_for_grants(room, lease, asked))


def test_another_writers_token_does_not_open_a_lease(room: Room) -> None:
    lease, other = room.api.lease("/sw/a"), room.api.lease("/sw/b")
    change_set = change_file.pack(room.desk.change_set(lease, {"f": b"1"}))
    fields = {"content-type": messages.CHANGE_SET_TYPE, "stratus-lease": other.token}
    url = f"/change-sets/{lease.id}?path=/sw/a"
    room.refuses("submit", 403, lambda: room.api.ask("POST", url, change_set, fields))


def test_after_all_of_it_the_writer_still_publishes(room: Room) -> None:
    lease = room.api.lease()
    room.refuses("submit", 422, lambda: room.api.submit(lease, b"nonsense"))
    assert room.api.submit(lease, change_file.pack(room.desk.change_set(lease, {"a": b"1"}))).status_code == 202
    assert content(room.desk.store) == {"sw": None, "sw/a": b"1"}


# -- grants and leases -----------------------------------------------------------------------------------------------


def ask_for_grants(room: Room, lease: LeaseGranted, body: bytes) -> httpx.Response:
    path = raw(lease).decode()
    return room.api.ask("POST", f"/leases/{lease.id}/grants?path={path}", body, {"stratus-lease": lease.token})


@pytest.mark.parametrize(
    "name", ["../../.cvmfspublished", ".cvmfspublished", f"{NAME}/../x", NAME.upper(), "a" * 40 + "X"]
)
def test_nothing_but_objects_is_granted(room: Room, name: str) -> None:
    lease = room.api.lease()
    body = messages.pack(GrantsRequest((Wanted(name, 10),)))
    room.refuses("lease.grants", 400, lambda: ask_for_grants(room, lease, body))


def test_what_exists_is_not_granted_again(room: Room) -> None:
    lease = room.api.lease()
    room.desk.store.put(LAYOUT.object(ObjectId(Algorithm.SHA1.digest(DATA))), DATA)
    before = room.state()
    reply = ask_for_grants(room, lease, messages.pack(GrantsRequest((Wanted(NAME, len(DATA)),))))
    assert messages.parse(reply.content, Grants) == Grants((NAME,), ())
    assert room.state() == before


def test_ten_thousand_leases_of_one_key_end_at_its_limit(room: Room) -> None:
    """Here the limit is five; ``functions/test_grants.py`` goes to the 500 that a key has by itself."""
    key, _ = new_key(room.desk.store, "alice", b"/sw", quota=Quota(leases=5))
    for number in range(5):
        wish = messages.pack(LeaseRequest(path=f"/sw/{number}"))
        assert room.api.ask("POST", "/leases", wish, key=key).status_code == 201
    for number in range(5, 30):
        wish = messages.pack(LeaseRequest(path=f"/sw/{number}"))
        entry = room.refuses("lease.acquire", 429, partial(room.api.ask, "POST", "/leases", wish, key=key))
        assert entry.code == "quota_exceeded"


def test_a_key_of_another_repository_is_nobodys_here(room: Room) -> None:
    stranger = WriterKey.generate()
    before = room.state()
    reply = room.api.ask("POST", "/leases", messages.pack(LeaseRequest(path="/sw")), key=stranger)
    assert reply.status_code == 401
    assert room.state() == before
    assert room.trail()[-1].time <= datetime.now(UTC)


def test_paths_of_urls_lead_nowhere_else(room: Room) -> None:
    lease = room.api.lease()
    for name in (f"{lease.id}/../x", "..%2f..%2flock", "%00" * 20, "A" * 20, "a" * 300):
        before = room.state()
        reply = room.api.client.request("PUT", f"{BASE}/leases/{name}?path=/sw")
        assert 400 <= reply.status_code < 500
        assert room.state() == before
