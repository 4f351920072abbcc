"""Small JSON documents of other services over HTTPS: a time limit, a size limit, no redirections."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from stratus.errors import StoreError, UsageError

_TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)
_LARGEST = 1 << 20  # bytes
_HINT = "check the URL and that it can be reached from here"

_pool = urllib3.PoolManager(maxsize=2, retries=False, timeout=_TIMEOUT)


def is_safe(url: str) -> bool:
    """Whether nobody on the way can read or change what is at that URL: https, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return (
        bool(host)
        and "@" not in parts.netloc
        and (parts.scheme == "https" or (parts.scheme == "http" and _is_here(host)))
    )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fetch_json(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object at a URL. Raises UsageError for one that is not safe, StoreError; neither shows what was answered."""
    if not is_safe(url):
        raise UsageError(f"{url[:200]!r} is not https", hint="only https is trusted, and http of this very machine")
    try:
        with _pool.request("GET", url, headers=headers, preload_content=False, redirect=False) as reply:
            body = reply.read(_LARGEST + 1, decode_content=False) if reply.status == 200 else b""
            reply.drain_conn() if len(body) <= _LARGEST else reply.close()
    except urllib3.exceptions.HTTPError as error:
        raise StoreError(f"no answer from {url}: {type(error).__name__}", hint=_HINT) from None
    if reply.status != 200 or len(body) > _LARGEST:
        what = f"was answered {reply.status}" if reply.status != 200 else "is too large"
        raise StoreError(f"{url} {what}", hint=_HINT)
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"{url} holds no JSON object", hint=_HINT)
    return found
