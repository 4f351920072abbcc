"""What the runtime itself answers, where a function could not: problem documents of RFC 9457."""

from __future__ import annotations

from http import HTTPStatus

from stratus.formats import messages
from stratus.formats.messages import PROBLEM_TYPE, Problem
from stratus.functions.contract import Reply

_AGAIN = "try again; nothing is lost, and nothing is done twice"
_SOON = 1  # seconds
_LATER = 5


def too_late(function: str, seconds: float) -> Reply:
    """504."""
    detail = f"the function {function} took longer than its {seconds:g} seconds"
    return _problem(HTTPStatus.GATEWAY_TIMEOUT, "too_late", detail, _AGAIN, _SOON)


def died(function: str, how: str) -> Reply:
    """502."""
    detail = f"a worker of the function {function} ended with {how}"
    return _problem(HTTPStatus.BAD_GATEWAY, "died", detail, _AGAIN, _SOON)


def out_of_memory(function: str, memory: int) -> Reply:
    """507; ``memory`` in bytes."""
    detail = f"the function {function} needs more than its {memory >> 20} MiB of memory"
    return _problem(HTTPStatus.INSUFFICIENT_STORAGE, "out_of_memory", detail, "publish in smaller parts")


def failed(function: str, error: Exception) -> Reply:
    """500."""
    detail = f"the function {function} failed: {type(error).__name__}"
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", detail, "the log of the server says more")


def full(function: str, seconds: int) -> Reply:
    """429, to be tried again after so many seconds."""
    detail = f"too many events wait for the function {function}"
    return _problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", detail, "try again later", seconds)


def stopping() -> Reply:
    """503."""
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "the server stops", "try again later", _LATER)


def _problem(status: HTTPStatus, code: str, detail: str, hint: str, retry_after: int | None = None) -> Reply:
    problem = Problem(title=status.phrase, status=status.value, detail=detail, code=code, hint=hint)
    retry = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return Reply(status.value, messages.pack(problem), (("Content-Type", PROBLEM_TYPE), *retry))
