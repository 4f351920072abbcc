"""The API's own document, against the API: whatever is sent, the answer is one that the document promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.concurrency import run_in_threadpool

from stratus.endpoints.api import api_app
from stratus.endpoints.openapi import OPERATIONS, UPLOAD, document
from stratus.endpoints.server import Server
from stratus.endpoints.uploads import upload_routes
from stratus.formats import messages
from stratus.formats.messages import CHANGE_SET_TYPE, TOKEN_HEADER, LeaseGranted, LeaseRequest
from stratus.functions.contract import Caller, Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.trust.identity import Identity
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey
from tests.endpoints.asking import Api
from tests.functions.desk import Desk, new_desk, new_key
from tests.repositories import FQRN, content


@schemathesis.serializer(CHANGE_SET_TYPE)
def as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
SCHEMA = schemathesis.openapi.from_dict(document())
KINDS = [one.kind for one in (*OPERATIONS, UPLOAD)]
EXAMPLES = 40


class Signed(requests.auth.AuthBase):
    """Signs what is sent, as it is sent."""

    def __init__(self, key: WriterKey) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        sent = body.encode() if isinstance(body, str) else body
        assert request.method is not None
        assert request.url is not None
        assert isinstance(sent, bytes)
        headers = {name: str(value) for name, value in request.headers.items()}
        request.headers.update(sign(request.method, request.url, headers, sent, self._key, datetime.now(UTC)))
        return request


class Target:
    """An API at an address, and a writer with a key."""

    def __init__(self, desk: Desk, url: str) -> None:
        self.desk = desk
        self.url = url
        key, record = new_key(desk.store, "fuzz", b"/fuzz")
        self.auth = Signed(key)
        self._caller = Caller(Identity.of_key(record), "127.0.0.1")

    def lease(self, path: str) -> LeaseGranted:
        """Of the same writer."""
        asked = messages.pack(LeaseRequest(path=path, ttl=3600))
        return messages.parse(self.desk.ask("lease.acquire", asked, caller=self._caller).body, LeaseGranted)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    desk = new_desk()
    api = Api(desk, new_key(desk.store)[0])

    async def invoke(event: Event) -> Reply:
        return await run_in_threadpool(dispatch, event, desk.context())

    authenticator, auditor = api.doors()
    app = api_app(invoke, authenticator, auditor, upload_routes(api.stores, auditor))
    started = threading.Event()
    with Server(app) as server:
        thread = threading.Thread(target=server.run, args=(started.set,))
        thread.start()
        assert started.wait(10)
        yield Target(desk, server.url)
        server.stop()
        thread.join(20)


def operation(kind: str) -> Any:
    found: list[Any] = [one.ok() for one in SCHEMA.get_all_operations() if isinstance(one, Ok)]
    return next(one for one in found if one.definition.raw["operationId"] == kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_sent_is_too_much(target: Target, kind: str) -> None:
    before = content(target.desk.store)
    lease = target.lease(f"/fuzz/{kind}")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation(kind).as_strategy(), aimed=st.booleans(), is_signed=st.booleans())
    def send(case: Any, aimed: bool, is_signed: bool) -> None:
        if aimed:  # at a repository and a lease that there are
            case.path_parameters = {**(case.path_parameters or {}), "fqrn": FQRN}
            if "id" in case.path_parameters:
                case.path_parameters["id"] = lease.id
                case.query = {**(case.query or {}), "path": lease.path}
                case.headers = {**(case.headers or {}), TOKEN_HEADER: lease.token}
        response = case.call(base_url=target.url, auth=target.auth if is_signed else None, timeout=20)
        case.validate_response(response, checks=CHECKS)

    send()
    assert content(target.desk.store) == before
