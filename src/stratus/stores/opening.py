"""From a URL to a store."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from stratus.errors import UsageError
from stratus.stores.contract import Store

if TYPE_CHECKING:
    from stratus.stores.memory import MemoryStore

_HINT = "use s3://bucket[/prefix][?endpoint=URL&region=NAME], file:///directory, a path, or http(s)://host/path to read"

_memories: dict[str, MemoryStore] = {}
_lock = threading.Lock()


def open_store(url: str) -> Store:
    """The store at a URL or a path; nothing is contacted yet. Raises UsageError for what is no store's URL.

    ``s3://bucket[/prefix][?endpoint=URL&region=NAME]`` (the rest as AWS tools take it: environment, profiles),
    ``file:///directory`` or a path, ``http(s)://host/path`` (read-only), ``memory:NAME`` (one per process and name).
    """
    scheme, colon, rest = url.partition(":")
    if not colon or "/" in scheme:
        if not url:
            raise UsageError("a store needs a URL", hint=_HINT)
        return _directory(Path(url).expanduser())
    match scheme:
        case "memory":
            from stratus.stores.memory import MemoryStore

            with _lock:
                return _memories.setdefault(rest, MemoryStore(rest))
        case "file":
            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise UsageError(f"{url} names no directory of this machine", hint="write file:///directory")
            return _directory(Path(unquote(parts.path, errors="surrogateescape")))
        case "http" | "https":
            from stratus.stores.http import HttpStore

            return HttpStore(url)
        case "s3":
            return _bucket(url)
        case _:
            raise UsageError(f"{url} is no store's URL", hint=_HINT)


def _directory(path: Path) -> Store:
    from stratus.stores.directory import DirectoryStore

    return DirectoryStore(path)


def _bucket(url: str) -> Store:
    from stratus.stores.s3 import S3Store

    parts = urlsplit(url)
    options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    unknown = options.keys() - {"endpoint", "region"}
    if unknown or not parts.netloc or parts.fragment:
        raise UsageError(f"{url} names no bucket, or has options that are not known", hint=_HINT)
    return S3Store(
        parts.netloc,
        unquote(parts.path).strip("/"),
        endpoint=options.get("endpoint", [None])[-1],
        region=options.get("region", [None])[-1],
    )
