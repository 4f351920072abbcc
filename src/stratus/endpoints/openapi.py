"""The API's operations, and the OpenAPI 3.1 document that is made of them and of the messages themselves."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from stratus._version import __version__
from stratus.formats.claim import DEFAULT_TTL
from stratus.formats.messages import (
    CHANGE_SET_TYPE,
    GRANT_HEADER,
    LARGEST_INLINE,
    LARGEST_OBJECT,
    LONGEST_WAIT,
    MOST_GRANTS,
    PROBLEM_TYPE,
    TOKEN_HEADER,
    ClaimList,
    Grants,
    GrantsRequest,
    LeaseGranted,
    LeaseRenewed,
    LeaseRequest,
    Problem,
    Queued,
    QueueInfo,
    Status,
)
from stratus.formats.receipt import Receipt

ROOT = "/api/v1"
BASE = f"{ROOT}/repositories/{{fqrn}}"
DOCUMENT = f"{ROOT}/openapi.json"
_LARGEST_MESSAGE = 64 << 10  # bytes of JSON in a request
_LARGEST_NAMES = 256 << 10  # the same, of the names of MOST_GRANTS objects
_NAME = re.compile(r"\{([a-z]+)\}")


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query, or a header."""

    name: str
    description: str
    kind: Literal["string", "integer", "number"] = "string"
    required: bool = False


class Operation(msgspec.Struct, frozen=True):
    """What can be asked for.

    Attributes:
        kind: of the event that it becomes.
        path: below ``BASE``.
        request: the message in the body; ``bytes`` for a change set or an object, None without a body.
        replies: the message by status, None without a body.
        signed: it takes a writer's signature; others may be signed, too.
        token: it takes the lease's token.
        largest: bytes of a body; ``content_type`` of one that is no message.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    kind: str
    summary: str
    replies: Mapping[int, type[msgspec.Struct] | None]
    query: Sequence[Parameter] = ()
    headers: Sequence[Parameter] = ()
    request: type[Any] | None = None
    signed: bool = True
    token: bool = False
    content_type: str = CHANGE_SET_TYPE
    largest: int = _LARGEST_MESSAGE


_PATH = Parameter(
    "path", "The path that is leased, percent-encoded bytes; empty for the root; left out where no path is leased."
)

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "", "status", "The newest revision, and how busy the repository is.", {200: Status}, signed=False),
    Operation(
        "POST",
        "/leases",
        "lease.acquire",
        f"Lease a path, by default for {DEFAULT_TTL} s. 409 with `lease_held` says who has it, and how long.",
        {201: LeaseGranted},
        request=LeaseRequest,
    ),
    Operation("GET", "/leases", "lease.list", "All leases.", {200: ClaimList}),
    Operation("PUT", "/leases/{id}", "lease.renew", "Keep a lease.", {200: LeaseRenewed}, query=(_PATH,), token=True),
    Operation(
        "DELETE",
        "/leases/{id}",
        "lease.release",
        "Give a lease up. A change set that was submitted under it is published all the same.",
        {204: None},
        query=(_PATH,),
        token=True,
    ),
    Operation(
        "POST",
        "/leases/{id}/grants",
        "lease.grants",
        f"What of some objects, at most {MOST_GRANTS}, is there already, and permission to upload the rest.",
        {200: Grants},
        query=(_PATH,),
        request=GrantsRequest,
        token=True,
        largest=_LARGEST_NAMES,
    ),
    Operation(
        "POST",
        "/leases/{id}/break",
        "lease.break",
        "End somebody's lease; takes a grant for its path.",
        {204: None},
        query=(_PATH,),
    ),
    Operation(
        "POST",
        "/change-sets/{id}",
        "submit",
        "Submit a change set under the lease of that id; again does no harm. 202: it waits for its receipt.",
        {200: Receipt, 202: Queued},
        query=(
            _PATH,
            Parameter("base", "The revision that it was made against.", "integer"),
            Parameter("staged", "SHA-256 of a change set that was uploaded as `change-set`, without a body."),
        ),
        request=bytes,
        token=True,
        largest=LARGEST_INLINE,
    ),
    Operation(
        "GET",
        "/change-sets/{id}/receipt",
        "receipt",
        "What became of a change set. 202: it still waits.",
        {200: Receipt, 202: Queued},
        query=(Parameter("wait", f"Seconds to wait for it, at most {LONGEST_WAIT}.", "number"),),
    ),
    Operation("GET", "/queue", "queue", "The change sets that wait.", {200: QueueInfo}),
)


# What ``endpoints.uploads`` serves, without an event.
UPLOAD = Operation(
    "PUT",
    "/leases/{id}/objects/{object}",
    "upload",
    "Upload an object, by a grant with this URL: where the store takes nothing from others itself. 412: it is there.",
    {201: None, 412: Problem},
    query=(_PATH,),
    headers=(Parameter(GRANT_HEADER, "What the grant says.", required=True),),
    request=bytes,
    signed=False,
    token=True,
    content_type="application/octet-stream",
    largest=LARGEST_OBJECT,
)

# What ``endpoints.events`` serves: for everybody, and no events to functions.
_NEWS: Mapping[str, Mapping[str, Any]] = {
    f"{BASE}/events": {
        "get": {
            "operationId": "events",
            "summary": "New revisions as they come, the newest at once; `Last-Event-ID` is the last one known.",
            "responses": {"200": {"description": "OK", "content": {"text/event-stream": {}}}},
        }
    },
    f"{BASE}/notifications": {
        "get": {
            "operationId": "notifications",
            "summary": "Wait for a newer revision.",
            "parameters": [
                {"name": "after", "in": "query", "schema": {"type": "integer"}, "description": "The one known."},
                {"name": "wait", "in": "query", "schema": {"type": "integer"}, "description": "Seconds."},
            ],
            "responses": {
                "200": {"description": "OK", "content": {"application/json": {}}},
                "204": {"description": "No newer one came."},
            },
        }
    },
    f"{ROOT}/notifications/subscribe": {
        "get": {
            "operationId": "subscribe",
            "summary": "The stream of the stock clients.",
            "responses": {"200": {"description": "OK"}},
        }
    },
    f"{ROOT}/notifications/publish": {
        "post": {
            "operationId": "publish",
            "summary": "A stock publisher's notification: a hint to look.",
            "responses": {"200": {"description": "OK"}},
        }
    },
}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    _, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for one in (*OPERATIONS, UPLOAD):
        paths.setdefault(BASE + one.path, {})[one.method.lower()] = _operation(one)
    answer = {"200": {"description": "OK", "content": {"application/json": {}}}}
    paths[DOCUMENT] = {"get": {"summary": "This document.", "operationId": "document", "responses": answer}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stratus",
            "version": __version__,
            "description": "Publishing to CernVM-FS repositories. Requests are signed with a writer's key: HTTP "
            "message signatures (RFC 9421), tag `stratus`; or they bear a token of an issuer that the repository's "
            "owner named. Errors are problem documents (RFC 9457) with a `code`.",
        },
        "paths": {**paths, **{path: _with_parameters(path, item) for path, item in _NEWS.items()}},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "signature": {"type": "apiKey", "in": "header", "name": "Signature", "description": "RFC 9421"},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong, and what can be done.",
                    "content": {PROBLEM_TYPE: {"schema": _ref(Problem)}},
                }
            },
        },
    }


@functools.cache
def _schemas() -> tuple[dict[type[Any], dict[str, Any]], dict[str, Any]]:
    """The reference of each message, and the schemas of all of them."""
    asked = {one.request for one in OPERATIONS} - {None, bytes}
    answered = {kind for one in OPERATIONS for kind in one.replies.values()} - {None}
    kinds: list[Any] = sorted({Problem, *asked, *answered}, key=lambda kind: kind.__name__)
    found, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(zip(kinds, found, strict=True)), schemas


def _operation(one: Operation) -> dict[str, Any]:
    parameters = _in_path(BASE + one.path)
    parameters += [
        {
            "name": parameter.name,
            "in": place,
            "required": parameter.required,
            "description": parameter.description,
            "schema": {"type": parameter.kind},
        }
        for place, given in (("query", one.query), ("header", one.headers))
        for parameter in given
    ]
    if one.token:
        parameters.append(
            {
                "name": TOKEN_HEADER,
                "in": "header",
                "required": True,
                "description": "The token that came with the lease.",
                "schema": {"type": "string"},
            }
        )
    found: dict[str, Any] = {
        "operationId": one.kind,
        "summary": one.summary,
        "parameters": parameters,
        "responses": {
            **{str(status): _reply(status, message) for status, message in one.replies.items()},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if one.signed:
        found["security"] = [{"signature": []}, {"token": []}]
    if one.request is bytes:
        schema = {"type": "string", "contentMediaType": one.content_type, "maxLength": one.largest}
        found["requestBody"] = {"content": {one.content_type: {"schema": schema}}}
    elif one.request is not None:
        content = {"application/json": {"schema": _ref(one.request)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _NAME.findall(path)
    ]


def _with_parameters(path: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """The operations of a path, with the names in it as a parameter of all of them."""
    names = _in_path(path)
    return {**item, "parameters": names} if names else dict(item)


def _reply(status: int, message: type[msgspec.Struct] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if message is not None:
        found["content"] = {"application/json": {"schema": _ref(message)}}
    return found


def _ref(kind: type[Any]) -> dict[str, Any]:
    return _schemas()[0][kind]
