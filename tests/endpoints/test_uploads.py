"""Uploads through the API: nothing but the bytes that were granted comes into the store, however they are sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from stratus.endpoints import uploads
from stratus.endpoints.openapi import BASE
from stratus.endpoints.uploads import upload_routes
from stratus.errors import NoSuchRepository
from stratus.formats import messages
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.messages import PROBLEM_TYPE, Grants, GrantsRequest, LeaseGranted, Problem, UploadGrant, Wanted
from stratus.functions import auditing
from stratus.functions.auditing import Auditor
from stratus.stores import flows
from stratus.stores.contract import Store
from tests.functions.desk import LAYOUT, Desk, new_desk, of
from tests.repositories import FQRN

SMALL, LARGE = os.urandom(1000), os.urandom(3 << 20)


@pytest.fixture
def desk() -> Desk:
    return new_desk()


def name(data: bytes) -> str:
    return str(ObjectId(Algorithm.SHA1.digest(data)))


def key(data: bytes) -> str:
    return LAYOUT.object(ObjectId(Algorithm.SHA1.digest(data)))


def granted(desk: Desk, lease: LeaseGranted, what: str, size: int) -> UploadGrant:
    reply = desk.ask("lease.grants", messages.pack(GrantsRequest((Wanted(what, size),))), **of(lease))
    return messages.parse(reply.body, Grants).grants[0]


def send(
    desk: Desk, lease: LeaseGranted, grant: UploadGrant, body: bytes | AsyncIterator[bytes], fqrn: str = FQRN
) -> httpx.Response:
    def stores(asked: str) -> Store:
        if asked != FQRN:
            raise NoSuchRepository(f"there is no {asked}")
        return desk.store

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=upload_routes(stores, Auditor(stores))))
        url = f"{BASE.format(fqrn=fqrn)}/leases/{lease.id}/{grant.url}"
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.put(url, content=body, headers=dict(grant.headers))

    return asyncio.run(ask())


def put(desk: Desk, granted_for: bytes, body: bytes | AsyncIterator[bytes]) -> httpx.Response:
    """Sends a body by a grant for another, or the same."""
    lease = desk.lease()
    try:
        return send(desk, lease, granted(desk, lease, name(granted_for), len(granted_for)), body)
    finally:
        desk.ask("lease.release", **of(lease))


def problem(reply: httpx.Response) -> Problem:
    assert reply.headers["content-type"] == PROBLEM_TYPE
    return messages.parse(reply.content, Problem)


def everything(desk: Desk) -> list[str]:
    """All keys but those of the trail."""
    return [stat.key for stat in desk.store.list("") if not stat.key.startswith(LAYOUT.audit())]


async def in_parts(data: bytes, size: int = 100_000, pause: float = 0.0) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(pause)


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_what_was_granted_is_stored(desk: Desk, data: bytes) -> None:
    assert put(desk, data, data).status_code == 201
    assert desk.store.get(key(data)).data == data


def test_a_body_may_come_in_parts_and_without_its_length(desk: Desk) -> None:
    assert put(desk, LARGE, in_parts(LARGE)).status_code == 201
    assert desk.store.get(key(LARGE)).data == LARGE


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_other_bytes_are_refused(desk: Desk, data: bytes) -> None:
    before = everything(desk)
    wrong = put(desk, data, bytes(len(data)))
    assert (wrong.status_code, problem(wrong).code) == (400, "bad_hash")
    for body in (data + b"x", data[:-1], b""):
        assert put(desk, data, body).status_code == 413
        assert put(desk, data, in_parts(body)).status_code == 413
    assert everything(desk) == before
    trail = flows.run(auditing.read(LAYOUT, desk.clock.now - timedelta(hours=1)), desk.store)
    assert {(one.kind, one.status) for one in trail} == {("upload", 400), ("upload", 413)}


def test_a_body_that_is_too_long_is_not_read_to_its_end(desk: Desk) -> None:
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield bytes(1000)

    assert put(desk, SMALL, endless()).status_code == 413
    assert len(sent) < 5


def test_what_exists_is_never_replaced(desk: Desk) -> None:
    lease = desk.lease()
    grant = granted(desk, lease, name(SMALL), len(SMALL))
    desk.store.put(key(SMALL), b"what another one has put")
    again = send(desk, lease, grant, SMALL)
    assert (again.status_code, problem(again).code) == (412, "exists")
    assert desk.store.get(key(SMALL)).data == b"what another one has put"


def test_a_change_set_is_staged_and_may_be_replaced(desk: Desk) -> None:
    lease = desk.lease()
    grant = granted(desk, lease, "change-set", 5)
    for body in (b"first", b"other"):
        assert send(desk, lease, grant, body).status_code == 201
        assert desk.store.get(LAYOUT.staged(lease.id, "change-set")).data == body


def test_who_sends_too_slowly_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_LONGEST_SILENCE", 0.2)
    assert put(desk, SMALL, in_parts(SMALL, 10, pause=0.3)).status_code == 408
    monkeypatch.setattr(uploads, "_START", 0.2)  # some bytes now and then are not enough, either
    monkeypatch.setattr(uploads, "_SLOWEST", 1 << 20)
    assert put(desk, SMALL, in_parts(SMALL, 10, pause=0.05)).status_code == 408
    assert desk.store.missing([key(SMALL)])


def test_without_a_grant_nothing_is_read(desk: Desk) -> None:
    async def never() -> AsyncIterator[bytes]:
        for _ in range(1):
            raise AssertionError
        yield b""

    lease = desk.lease()
    grant = granted(desk, lease, name(SMALL), len(SMALL))
    url = urlsplit(grant.url)
    other = UploadGrant(grant.id, f"objects/{name(LARGE)}?{url.query}", grant.headers, grant.expires)
    assert send(desk, lease, other, never()).status_code == 403
    assert send(desk, lease, UploadGrant("", grant.url, grant.headers[:1], grant.expires), never()).status_code == 403
    assert send(desk, lease, UploadGrant("", f"objects/{grant.id}", (), grant.expires), never()).status_code == 410
    assert send(desk, lease, grant, never(), "other.example.org").status_code == 404
    assert send(desk, lease, grant, never(), "..%2f..").status_code in (400, 404)
    desk.ask("lease.release", **of(lease))
    assert send(desk, lease, grant, never()).status_code == 410
