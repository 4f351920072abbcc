"""Signed requests: HTTP message signatures (RFC 9421) with a writer's Ed25519 key, or the secret of a gateway key.

Which of the two it is says the record of the key, never the request: whoever knows a public key could else sign with it
as if it were a secret.

Signed are the method, the authority, path and query of the URL (not its scheme, which proxies change), the digest of
the body (RFC 9530), the type of the content where there is one; and as parameters the time, a nonce, the key's id, and
the tag ``stratus``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
)
from http_message_signatures.algorithms import ED25519, HMAC_SHA256
from http_message_signatures.exceptions import InvalidSignature

from stratus.errors import BadSignature, NotPermitted, UsageError
from stratus.formats.key_record import is_key_id
from stratus.formats.records import new_nonce
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.writer_keys import WriterKey

FindKey = Callable[[str], "bytes | GatewayKey | None"]
"""By the id of a key: the public half of a pair (32 bytes), or a shared secret; None for an unknown one."""

MAX_AGE = 300.0  # seconds
REMEMBERED = timedelta(seconds=2 * MAX_AGE)  # by whoever refuses replays: longer than a signature is good
_AHEAD = 60.0  # seconds that the clock of a writer may be fast
_TAG = "stratus"
_COVERED = ("@method", "@authority", "@path", "@query", "content-digest")
_HINT = "sign the request with the writer's key just before it is sent; what is on the way must not change it"


class Signed(msgspec.Struct, frozen=True):
    """Who signed a request and when (UTC); whoever refuses replays remembers the nonce for as long as it is good."""

    key_id: str
    nonce: str
    created: datetime


class _Message(msgspec.Struct):
    """A request in the form that the library wants."""

    method: str
    url: str
    headers: dict[str, str]


def sign(
    method: str, url: str, headers: Mapping[str, str], body: bytes, key: WriterKey | GatewayKey, now: datetime
) -> dict[str, str]:
    """The headers with those of the signature. ``url`` is absolute and encoded. Raises UsageError where it is not."""
    ours = {"content-digest", "signature", "signature-input"}
    message = _Message(method, url, {name: value for name, value in headers.items() if name.lower() not in ours})
    scheme = ED25519 if isinstance(key, WriterKey) else _Mac
    signer = HTTPMessageSigner(signature_algorithm=scheme, key_resolver=_Own(key))
    try:
        signer.sign(
            message,
            key_id=key.id,
            created=now,
            nonce=new_nonce(),
            label=_TAG,
            tag=_TAG,
            covered_component_ids=_covered(message.headers),
            body=body,
        )
    except HTTPMessageSignaturesException as error:
        raise UsageError(f"a request to {url} cannot be signed: {error}", hint="check the URL") from error
    return message.headers


def verify(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    find_key: FindKey,
    now: datetime,
    max_age: float = MAX_AGE,
) -> Signed:
    """Who signed this request.

    ``url`` is the one that writers use. Whether that key is still good, and for what, is not asked here.

    Raises NotPermitted for a request that is not signed, by an unknown key, or too long ago; BadSignature for one that
    was changed, or whose signature leaves something out.
    """
    if not {"signature", "signature-input"} <= {name.lower() for name in headers}:
        raise NotPermitted("the request is not signed", hint="sign it with a writer's key (RFC 9421, tag stratus)")
    message = _Message(method, url, dict(headers))
    verifier = _Verifier(find_key, now, max_age)
    try:
        found = verifier.verify(message, expect_tag=_TAG, require_components=_covered(headers), body=body)
    except HTTPMessageSignaturesException as error:
        why = str(error) or "it is another key's, or the request was changed after it was signed"
        raise BadSignature(f"the signature of the request does not hold: {why}", hint=_HINT) from error
    if len(found) != 1 or not found[0].nonce:
        raise BadSignature("the request has more than one signature, or one without a nonce", hint=_HINT)
    created = datetime.fromtimestamp(int(found[0].parameters["created"]), UTC)
    return Signed(str(found[0].parameters["keyid"]), found[0].nonce, created)


def _covered(headers: Mapping[str, str]) -> tuple[str, ...]:
    typed = any(name.lower() == "content-type" for name in headers)
    return (*_COVERED, "content-type") if typed else _COVERED


class _Mac(HMAC_SHA256):
    """Compares in a time that does not depend on where two values differ."""

    def verify(self, signature: bytes, message: bytes) -> None:
        if not hmac.compare_digest(self.sign(message), signature):
            raise InvalidSignature


class _Own(HTTPSignatureKeyResolver):
    """Knows the own key."""

    def __init__(self, key: WriterKey | GatewayKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey | bytes:  # noqa: ARG002
        return self._key.private_key if isinstance(self._key, WriterKey) else self._key.secret


class _Verifier(HTTPMessageVerifier, HTTPSignatureKeyResolver):
    """Goes by the clock that it is given, and by the scheme of the key that it finds."""

    def __init__(self, find_key: FindKey, now: datetime, max_age: float) -> None:
        super().__init__(signature_algorithm=ED25519, key_resolver=self)
        self._find_key = find_key
        self._now = now.timestamp()
        self._max_age = max_age
        self._key: Ed25519PublicKey | bytes = b""

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | bytes:  # noqa: ARG002 (found before)
        return self._key

    def validate_created_and_expires(self, sig_input: Any, max_age: object = None) -> None:  # noqa: ARG002
        """What the library asks first of a signature. Sets the scheme that it then asks for."""
        created, expires = sig_input.params.get("created"), sig_input.params.get("expires", self._now)
        if type(created) is not int:
            raise BadSignature("the signature of the request has no time", hint=_HINT)
        age = self._now - created
        if age > self._max_age or expires < self._now:
            raise NotPermitted(
                f"the request was signed {age:.0f} s ago, at most {self._max_age:.0f} s are allowed",
                hint="sign it just before it is sent, and check the clock of the machine that signs",
            )
        if age < -_AHEAD:
            raise NotPermitted(
                f"the request was signed {-age:.0f} s in the future", hint="set the clock of the machine that signs"
            )
        self._use_key(str(sig_input.params.get("keyid", "")))

    def _use_key(self, key_id: str) -> None:
        found = self._find_key(key_id) if is_key_id(key_id) else None
        if found is None:
            raise NotPermitted(
                f"the key {key_id[:40]!r} is not known here",
                hint="the repository's owner makes keys with `stratus key create`",
            )
        if isinstance(found, GatewayKey):
            self.signature_algorithm, self._key = _Mac, found.secret
        else:
            self.signature_algorithm, self._key = ED25519, Ed25519PublicKey.from_public_bytes(found)
