"""The API behind a function URL or an HTTP API of API Gateway (payload version 2.0)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from mangum import Mangum
from starlette.concurrency import run_in_threadpool

from stratus.endpoints.api import api_app
from stratus.endpoints.authentication import Authenticator
from stratus.endpoints.replays import StoreReplays
from stratus.functions.auditing import Auditor
from stratus.functions.contract import Event, Reply
from stratus.runtimes.aws.warm import LambdaContext, warm
from stratus.runtimes.public_url import known_as

_TEXT = ["text/", "application/json", "application/problem+json"]

_current: ContextVar[LambdaContext] = ContextVar("context")


async def _invoke(event: Event) -> Reply:
    return await run_in_threadpool(warm().run, event, _current.get())


def _api() -> Any:
    stores = warm().store
    authenticator = Authenticator(stores, warm().secrets, StoreReplays(stores))
    return known_as(api_app(_invoke, authenticator, Auditor(stores)), warm().settings.url)


_app = _api()
_adapter = Mangum(_app, lifespan="off", text_mime_types=_TEXT)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One request."""
    _current.set(context)
    return _adapter(event, context)  # type: ignore[arg-type]
