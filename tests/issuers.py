"""A token issuer of the tests' own: keys, tokens, and the documents that it would serve; on request over HTTP."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

URL = "https://issuer.example.org"
AUDIENCE = "stratus"
KEY_ID = "first"


@functools.cache
def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    """The same for the same arguments: making one takes long."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class Issuer:
    """Signs with one key, under its id; publishes what is in ``keys``."""

    url: str = URL
    key: Any = field(default_factory=rsa_key)
    algorithm: str = "RS256"
    keys: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    down: bool = False

    def __post_init__(self) -> None:
        if not self.keys:
            self.keys = [public_jwk(self.key, KEY_ID)]

    def token(self, *without: str, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good one for five minutes, but for what is said."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "somebody", "iat": now, "nbf": now, "exp": now + 300}
        said = {name: value for name, value in {**usual, **claims}.items() if name not in without}
        return jwt.encode(said, self.key, self.algorithm, headers={"kid": KEY_ID, **(headers or {})})

    def fetch(self, url: str) -> dict[str, Any]:
        """What it serves at a URL."""
        from stratus.errors import StoreError

        self.fetched.append(url)
        if self.down:
            raise StoreError(f"no answer from {url}")
        path = url.removeprefix(self.url)
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        assert path == "/jwks", path
        return {"keys": self.keys}


def public_jwk(key: Any, key_id: str, **more: Any) -> dict[str, Any]:
    """The public half, as issuers publish it."""
    match key:
        case rsa.RSAPrivateKey():
            found = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            found = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ed25519.Ed25519PrivateKey():
            found = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            raise AssertionError(key)
    return {**found, "kid": key_id, "use": "sig", **more}


@contextmanager
def serving() -> Iterator[Issuer]:
    """An issuer that can be asked over HTTP on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.fetch(issuer.url + self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = Issuer(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
