"""Where functions that run away from the command line are told what they serve: the environment, and nothing else.

``docs/operations.md`` has the table of these variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from stratus.errors import UsageError
from stratus.formats.paths import check_fqrn

Trust = Literal["nobody", "token", "network"]
"""Whose events are believed: nobody's; who knows the token; whoever reaches the port."""

_PORT = 8080
_TEND_EVERY = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Settings:
    """What an instance serves, and how.

    Attributes:
        store: the URL of the store (``STRATUS_STORE``).
        repositories: names (``STRATUS_REPOSITORIES``, separated by spaces or commas).
        secrets: where secrets come from (``STRATUS_SECRETS``).
        url: as writers know the service (``STRATUS_URL``), if a proxy stands in front that changes the ``Host``.
        host, port: to listen at (``STRATUS_HOST``, ``PORT``).
        workers: requests to the API at once (``STRATUS_WORKERS``); 0 is two for each core.
        tend_every: seconds (``STRATUS_TEND_EVERY``); 0 where a schedule of the platform does it.
        trust: whose events are believed (``STRATUS_EVENTS=network``, or ``STRATUS_EVENTS_TOKEN``).
        token: what they are believed for.
        sink: where follow-ups are posted to as CloudEvents (``STRATUS_EVENTS_URL``, or Knative's ``K_SINK``).
        queues: URLs of SQS queues for follow-ups by kind (``STRATUS_QUEUES``: ``commit=URL submit=URL``).
    """

    store: str
    repositories: tuple[str, ...]
    secrets: str
    url: str = ""
    host: str = "0.0.0.0"
    port: int = _PORT
    workers: int = 0
    tend_every: float = _TEND_EVERY
    trust: Trust = "nobody"
    token: str = field(default="", repr=False)
    sink: str = ""
    queues: Mapping[str, str] = field(default_factory=dict)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Raises UsageError, which names the variable."""
    names = tuple(check_fqrn(name) for name in _needed(environment, "STRATUS_REPOSITORIES").replace(",", " ").split())
    token = environment.get("STRATUS_EVENTS_TOKEN", "")
    return Settings(
        store=_needed(environment, "STRATUS_STORE"),
        repositories=names,
        secrets=_needed(environment, "STRATUS_SECRETS"),
        url=_base(environment, "STRATUS_URL"),
        host=environment.get("STRATUS_HOST") or "0.0.0.0",
        port=int(_number(environment, "PORT", _PORT)),
        workers=int(_number(environment, "STRATUS_WORKERS", 0)),
        tend_every=_number(environment, "STRATUS_TEND_EVERY", _TEND_EVERY),
        trust=_trust(environment.get("STRATUS_EVENTS", ""), token),
        token=token,
        sink=_url(environment, "STRATUS_EVENTS_URL") or _url(environment, "K_SINK"),
        queues=_queues(environment.get("STRATUS_QUEUES", "")),
    )


def _needed(environment: Mapping[str, str], name: str) -> str:
    found = environment.get(name, "").strip()
    if not found:
        raise UsageError(f"{name} is not set", hint="docs/operations.md says what functions need in their environment")
    return found


def _url(environment: Mapping[str, str], name: str) -> str:
    found = environment.get(name, "").rstrip("/")
    parts = urlsplit(found)
    if found and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise UsageError(f"{name} is no URL of http or https: {found[:80]!r}")
    return found


def _base(environment: Mapping[str, str], name: str) -> str:
    found = _url(environment, name)
    if urlsplit(found).path:
        raise UsageError(f"{name} has a path: {found[:80]!r}", hint="give the functions a host of their own")
    return found


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise UsageError(f"{name} is no number, or less than 0: {text[:40]!r}")
    return found


def _trust(mode: str, token: str) -> Trust:
    if mode not in ("", "network"):
        raise UsageError(f"STRATUS_EVENTS is {mode[:40]!r}", hint="`network` is all that it may be; or leave it out")
    if mode and token:
        raise UsageError("STRATUS_EVENTS and STRATUS_EVENTS_TOKEN are both set", hint="leave one of them out")
    if token:
        return "token"
    return "network" if mode else "nobody"


def _queues(text: str) -> Mapping[str, str]:
    found = dict(part.partition("=")[::2] for part in text.split())
    if not all(found.values()):
        raise UsageError("STRATUS_QUEUES is not of the form `commit=URL submit=URL`")
    return found
