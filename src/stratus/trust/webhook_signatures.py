"""Signed webhooks: HTTP message signatures (RFC 9421) with the key that signs the repository's manifests.

Signed are the method, the authority, path and query of the URL, the digest of the body (RFC 9530) and its type; and as
parameters the time, a nonce, ``alg="rsa-v1_5-sha256"``, the tag ``stratus-webhook``, and as ``keyid`` the certificate's
SHA-1 fingerprint, as the whitelist lists it. So a receiver needs nothing but the certificate, which is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
)
from http_message_signatures.algorithms import RSA_V1_5_SHA256

from stratus.errors import BadSignature, UsageError
from stratus.formats import certificates
from stratus.formats.hashes import Algorithm
from stratus.formats.records import new_nonce
from stratus.trust.keys import RepositoryKeys

MAX_AGE = 300.0  # seconds
_AHEAD = 60.0  # seconds that the clock of the sender may be fast
_LABEL = "stratus"
_TAG = "stratus-webhook"
_COVERED = ("@method", "@authority", "@path", "@query", "content-digest", "content-type")


@dataclass(slots=True)
class _Message:
    """A request in the form that the library wants."""

    method: str
    url: str
    headers: dict[str, str]


def sign(url: str, content_type: str, body: bytes, keys: RepositoryKeys, now: datetime) -> dict[str, str]:
    """The headers of a POST of this body to this URL. Raises UsageError for what is no URL."""
    message = _Message("POST", url, {"Content-Type": content_type})
    signer = HTTPMessageSigner(signature_algorithm=RSA_V1_5_SHA256, key_resolver=_Key(private_key=keys.private_key))
    try:
        signer.sign(
            message,
            key_id=_fingerprint(keys.certificate),
            created=now,
            nonce=new_nonce(),
            label=_LABEL,
            tag=_TAG,
            covered_component_ids=_COVERED,
            body=body,
        )
    except HTTPMessageSignaturesException as error:
        raise UsageError(f"a request cannot be signed: {error}", hint="check the URL of the webhook") from error
    return message.headers


def verify(url: str, headers: Mapping[str, str], body: bytes, certificate: bytes, now: datetime) -> None:
    """For receivers: raises BadSignature unless a repository with this certificate (PEM) sent the POST just now.

    Whoever must not take one twice remembers revisions, which only grow.
    """
    message = _Message("POST", url, dict(headers))
    verifier = _Verifier(certificate, now)
    try:
        found = verifier.verify(message, expect_tag=_TAG, require_components=_COVERED, body=body)
    except HTTPMessageSignaturesException as error:
        why = str(error) or "it is another key's, or the request was changed"
        raise BadSignature(f"the signature of the webhook does not hold: {why}") from error
    if [result.parameters.get("keyid") for result in found] != [_fingerprint(certificate)]:
        raise BadSignature("the webhook was signed with another certificate's key")


def _fingerprint(certificate: bytes) -> str:
    return str(certificates.fingerprint(certificate, Algorithm.SHA1))


@dataclass(frozen=True, slots=True)
class _Key(HTTPSignatureKeyResolver):
    """One key, whatever its name."""

    private_key: RSAPrivateKey | None = None
    public_key: RSAPublicKey | None = None

    def resolve_private_key(self, key_id: str) -> RSAPrivateKey | None:  # noqa: ARG002
        return self.private_key

    def resolve_public_key(self, key_id: str) -> RSAPublicKey | None:  # noqa: ARG002
        return self.public_key


class _Verifier(HTTPMessageVerifier):
    """Goes by the clock that it is given."""

    def __init__(self, certificate: bytes, now: datetime) -> None:
        key = _Key(public_key=certificates.public_key(certificate))
        super().__init__(signature_algorithm=RSA_V1_5_SHA256, key_resolver=key)
        self._now = now

    def validate_created_and_expires(self, sig_input: Any, max_age: object = None) -> None:  # noqa: ARG002
        created = sig_input.params.get("created")
        if type(created) is not int:
            raise BadSignature("the signature of the webhook has no time")
        age = (self._now - datetime.fromtimestamp(created, UTC)).total_seconds()
        if not -_AHEAD <= age <= MAX_AGE:
            raise BadSignature(f"the webhook was signed {age:.0f} s ago", hint="check the clocks of both machines")
