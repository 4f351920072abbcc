"""Signatures hold for the URL that the writer used: behind a proxy that changes it, requests get it back."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send


def known_as(app: ASGIApp, url: str) -> ASGIApp:
    """The application as it is known by ``url``, whatever ``Host`` and scheme arrive; by those if it is empty."""
    if not url:
        return app
    parts = urlsplit(url)
    host, scheme = parts.netloc.encode("latin-1"), parts.scheme

    async def renamed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            others = [(name, value) for name, value in scope["headers"] if bytes(name).lower() != b"host"]
            scope = {**scope, "scheme": scheme, "headers": [(b"host", host), *others]}
        await app(scope, receive, send)

    return renamed
