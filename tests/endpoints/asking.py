"""The API asked without a network: by a writer with a key, and by others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from stratus.endpoints.api import api_app
from stratus.endpoints.authentication import Authenticator
from stratus.endpoints.replays import MemoryReplays, Replays
from stratus.formats import messages
from stratus.formats.messages import CHANGE_SET_TYPE, PROBLEM_TYPE, LeaseGranted, LeaseRequest, Problem
from stratus.functions.auditing import Auditor
from stratus.functions.contract import Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.stores.contract import Store
from stratus.trust import request_signatures
from stratus.trust.writer_keys import WriterKey
from tests.functions.desk import Desk, OwnKeys
from tests.repositories import FQRN

NONE: Mapping[str, str] = {}
BASE = f"/api/v1/repositories/{FQRN}"


class Client:
    """Asks an application without a network, one request after the other."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app)

    def request(
        self, method: str, path: str, content: bytes | AsyncIterator[bytes] = b"", headers: Mapping[str, str] = NONE
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://testserver") as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(ask())

    def get(self, path: str, headers: Mapping[str, str] = NONE) -> httpx.Response:
        return self.request("GET", path, headers=headers)

    def post(
        self, path: str, content: bytes | AsyncIterator[bytes] = b"", headers: Mapping[str, str] = NONE
    ) -> httpx.Response:
        return self.request("POST", path, content, headers)


@dataclass(slots=True)
class Api:
    """A writer with a key; ``commits`` runs follow-ups."""

    desk: Desk
    key: WriterKey
    commits: bool = True
    events: list[Event] = field(default_factory=list)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(api_app(self.invoke, *self.doors()))

    def doors(self, replays: Replays | None = None) -> tuple[Authenticator, Auditor]:
        """Who lets requests in, and who takes note of them."""
        seen = replays or MemoryReplays()
        return Authenticator(self.stores, OwnKeys(self.desk.keys), seen), Auditor(self.stores)

    def stores(self, fqrn: str) -> Store:
        return self.desk.store

    async def invoke(self, event: Event) -> Reply:
        self.events.append(event)
        reply = await run_in_threadpool(dispatch, event, self.desk.context())
        if self.commits:
            await run_in_threadpool(self.desk.follow, reply)
        return reply

    def signed(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, **how: Any
    ) -> dict[str, str]:
        url = f"http://testserver{BASE}{path}"
        key, now = how.get("key", self.key), how.get("now", datetime.now(UTC))
        return request_signatures.sign(method, url, {"host": "testserver", **(headers or {})}, body, key, now)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, **how: Any
    ) -> httpx.Response:
        signed = self.signed(method, path, body, headers, **how)
        return self.client.request(method, BASE + path, content=body, headers=signed)

    def lease(self, path: str | None = "/sw") -> LeaseGranted:
        reply = self.ask("POST", "/leases", messages.pack(LeaseRequest(path=path)))
        assert reply.status_code == 201, reply.text
        return messages.parse(reply.content, LeaseGranted)

    def submit(self, lease: LeaseGranted, body: bytes) -> httpx.Response:
        headers = {"content-type": CHANGE_SET_TYPE, "stratus-lease": lease.token}
        return self.ask("POST", f"/change-sets/{lease.id}?path={quote_from_bytes(raw(lease))}", body, headers)


def raw(lease: LeaseGranted) -> bytes:
    return (lease.path or "").encode("utf-8", "surrogateescape")


def problem(response: httpx.Response) -> Problem:
    assert response.headers["content-type"] == PROBLEM_TYPE
    found = messages.parse(response.content, Problem)
    assert found.status == response.status_code
    return found
