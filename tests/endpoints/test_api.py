"""The API over HTTP: who is believed, what becomes of a request, and what is answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_from_bytes

import msgspec
import pytest
from starlette.routing import Route

from stratus.endpoints.api import routes
from stratus.endpoints.events import event_routes
from stratus.endpoints.openapi import OPERATIONS
from stratus.endpoints.uploads import upload_routes
from stratus.endpoints.watching import Watchers
from stratus.formats import change_file, messages
from stratus.formats.messages import (
    LARGEST_INLINE,
    ClaimList,
    LeaseRequest,
    Queued,
    Status,
)
from stratus.formats.receipt import Receipt
from stratus.functions.contract import Event, Reply
from stratus.leases import writer_keys
from stratus.stores import flows
from stratus.trust.writer_keys import WriterKey
from tests.endpoints.asking import BASE, Api, problem, raw
from tests.functions.desk import LAYOUT, new_desk, new_key
from tests.repositories import content


@pytest.fixture
def api() -> Api:
    desk = new_desk()
    return Api(desk, new_key(desk.store)[0])


# -- the whole way ---------------------------------------------------------------------------------------------------


def test_a_publish_from_lease_to_receipt(api: Api) -> None:
    lease = api.lease()
    packed = change_file.pack(api.desk.change_set(lease, {"a": b"one"}))
    reply = api.submit(lease, packed)
    assert reply.status_code == 202, reply.text
    assert messages.parse(reply.content, Queued) == Queued(lease.id)
    reply = api.ask("GET", f"/change-sets/{lease.id}/receipt?wait=5")
    receipt = Receipt.parse(reply.content)
    assert (reply.status_code, receipt.state, receipt.writer) == (200, "published", "alice")
    assert api.submit(lease, packed).content == reply.content
    assert content(api.desk.store)["sw/a"] == b"one"
    status = messages.parse(api.client.get(BASE).content, Status)
    assert (status.revision, status.queue, status.root) == (2, 0, receipt.root)


def test_a_path_of_any_bytes_goes_through_urls(api: Api) -> None:
    lease = api.lease("/sw/\udcff?&%2F ä")
    path = quote_from_bytes(raw(lease))
    assert b"\xff" in raw(lease)
    renewed = api.ask("PUT", f"/leases/{lease.id}?path={path}", headers={"stratus-lease": lease.token})
    assert renewed.status_code == 200, renewed.text
    (listed,) = messages.parse(api.ask("GET", "/leases").content, ClaimList).leases
    assert listed.path == lease.path
    assert api.ask("POST", f"/leases/{lease.id}/break?path={path}").status_code == 204
    gone = api.ask("DELETE", f"/leases/{lease.id}?path={path}", headers={"stratus-lease": lease.token})
    assert (gone.status_code, gone.content, "content-type" in gone.headers) == (204, b"", False)


def test_without_a_path_is_the_lease_that_leaves_the_tree_alone(api: Api) -> None:
    lease = api.lease(None)
    headers = {"stratus-lease": lease.token}
    assert api.ask("PUT", f"/leases/{lease.id}?path=", headers=headers).status_code == 410
    assert api.ask("PUT", f"/leases/{lease.id}", headers=headers).status_code == 200


def test_a_receipt_is_waited_for_and_no_longer_than_asked(api: Api) -> None:
    api.commits = False
    lease = api.lease()
    api.submit(lease, change_file.pack(api.desk.change_set(lease, {"a": b"one"})))
    begun = time.monotonic()
    reply = api.ask("GET", f"/change-sets/{lease.id}/receipt?wait=0.5")
    assert (reply.status_code, reply.headers["retry-after"]) == (202, "1")
    assert 0.5 <= time.monotonic() - begun < 3
    asked = [event for event in api.events if event.kind == "receipt"]
    assert ["wake" in event.parameters for event in asked] == [True] + [False] * (len(asked) - 1)
    assert len(asked) > 2
    assert api.ask("GET", f"/change-sets/{lease.id}/receipt?wait=soon").status_code == 400


# -- who is believed -------------------------------------------------------------------------------------------------


def test_what_is_public_needs_no_signature_and_all_else_does(api: Api) -> None:
    for one in OPERATIONS:
        path = BASE + one.path.replace("{id}", "a" * 20)
        status = api.client.request(one.method, path).status_code
        assert status == (401 if one.signed else 200), one.kind
    assert all(event.kind == "status" for event in api.events)


def test_a_refusal_names_the_scheme(api: Api) -> None:
    reply = api.client.get(f"{BASE}/queue")
    assert reply.headers["www-authenticate"] == "Signature, Bearer"
    assert problem(reply).code == "not_permitted"


def test_a_bad_signature_is_refused_even_where_none_is_needed(api: Api) -> None:
    headers = api.signed("GET", "/queue")
    assert problem(api.client.get(BASE, headers=headers)).code == "bad_signature"


def test_a_request_counts_once(api: Api) -> None:
    headers = api.signed("GET", "/queue")
    assert api.client.get(f"{BASE}/queue", headers=headers).status_code == 200
    assert api.client.get(f"{BASE}/queue", headers=headers).status_code == 401


def test_what_was_changed_on_the_way_is_refused(api: Api) -> None:
    body = messages.pack(LeaseRequest(path="/sw"))
    headers = api.signed("POST", "/leases", body)
    assert api.client.post(f"{BASE}/leases", content=body + b" ", headers=headers).status_code == 401
    assert api.client.post(f"{BASE}/leases?x=1", content=body, headers=headers).status_code == 401
    assert api.client.request("PUT", f"{BASE}/leases", content=body, headers=headers).status_code == 405
    other = "/api/v1/repositories/other.example.org/leases"
    assert api.client.post(other, content=body, headers=headers).status_code == 401
    assert api.client.post(f"{BASE}/leases", content=body, headers=headers).status_code == 201


def test_an_old_request_and_a_strangers_are_refused(api: Api) -> None:
    assert api.ask("GET", "/queue", now=datetime.now(UTC) - timedelta(seconds=400)).status_code == 401
    assert api.ask("GET", "/queue", key=WriterKey.generate()).status_code == 401


def test_a_key_that_is_revoked_is_refused_at_once(api: Api) -> None:
    assert api.ask("GET", "/queue").status_code == 200
    flows.run(writer_keys.revoke(LAYOUT, api.key.id), api.desk.store)
    assert problem(api.ask("GET", "/queue")).code == "not_permitted"


def test_nobody_makes_an_event_of_the_system_by_http(api: Api) -> None:
    api.ask("POST", f"/change-sets/{'a' * 20}?path=/sw", b"x")
    api.client.post(f"{BASE}/change-sets/{'a' * 20}", content=b"x")
    assert [event.caller is not None for event in api.events if event.kind == "submit"] == [True]


# -- what is answered ------------------------------------------------------------------------------------------------


def test_a_conflict_says_who_and_when_to_come_back(api: Api) -> None:
    api.lease("/sw")
    reply = api.ask("POST", "/leases", messages.pack(LeaseRequest(path="/sw/a")))
    found = problem(reply)
    assert (reply.status_code, found.code, found.holder) == (409, "lease_held", "alice")
    assert found.expires is not None
    assert 1 <= int(reply.headers["retry-after"]) <= 30


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/leases", 405),
        ("PUT", "/leases/short", 400),
        ("POST", "/leases", 400),
        ("GET", "/change-sets/aaaaaaaaaaaaaaaaaaaa/receipt", 404),
        ("POST", "/change-sets/aaaaaaaaaaaaaaaaaaaa?path=/sw&base=x", 410),
    ],
)
def test_errors_are_problem_documents(api: Api, method: str, path: str, status: int) -> None:
    reply = api.ask(method, path)
    found = problem(reply)
    assert (reply.status_code, found.title != "", found.detail != "", found.hint != "") == (status, True, True, True)


def test_a_body_is_read_up_to_its_limit(api: Api) -> None:
    lease = api.lease()
    assert api.submit(lease, b"x" * LARGEST_INLINE).status_code == 422
    assert problem(api.submit(lease, b"x" * (LARGEST_INLINE + 1))).status == 413
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 10_000

    assert api.client.post(f"{BASE}/leases", content=endless()).status_code == 413
    assert len(sent) < 10


def test_a_large_change_set_is_staged(api: Api) -> None:
    lease = api.lease()
    packed = change_file.pack(api.desk.change_set(lease, {"a": b"one"}))
    api.desk.store.put(LAYOUT.staged(lease.id, messages.STAGED), packed)
    staged = f"/change-sets/{lease.id}?path=/sw&staged={hashlib.sha256(packed).hexdigest()}"
    assert api.ask("POST", staged, headers={"stratus-lease": lease.token}).status_code == 202


def test_an_unknown_repository_is_not_found(api: Api) -> None:
    reply = api.client.get("/api/v1/repositories/other.example.org")
    assert problem(reply).code == "no_such_repository"


def test_head_is_as_get_without_a_body(api: Api) -> None:
    reply = api.client.request("HEAD", BASE)
    assert (reply.status_code, reply.content) == (200, b"")


# -- the document ----------------------------------------------------------------------------------------------------


def test_the_document_names_every_route_and_every_message(api: Api) -> None:
    document = msgspec.json.decode(api.client.get("/api/v1/openapi.json").content)
    assert document["openapi"] == "3.1.0"

    async def never(_: Event) -> Reply:
        raise AssertionError

    served = {
        (route.path, method)
        for route in [
            *routes(never, *api.doors()),
            *event_routes(Watchers(lambda _: api.desk.store)),
            *upload_routes(lambda _: api.desk.store, api.doors()[1]),
        ]
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert served - described == {("/api/v1/notifications/subscribe", "POST")}  # which is the same as GET
    assert described <= served
    names = [operation["operationId"] for item in document["paths"].values() for operation in operations(item)]
    assert len(names) == len(set(names))
    schemas = document["components"]["schemas"]
    assert {"LeaseRequest", "LeaseGranted", "Receipt", "Status", "Problem"} <= schemas.keys()
    assert [name for name in schemas if not name.isidentifier()] == []
    for reference in references(document):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind]


def operations(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for method, operation in item.items() if method != "parameters"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
