"""Signatures of S3 requests in their headers (AWS Signature Version 4, the whole body hashed).

Botocore's signer does the same and takes ten times as long, which with many small requests is most of what they cost.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from stratus.stores.s3_place import Keys

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Signs for one region; thread-safe. The key of a day is made once."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._key = ("", "", b"")  # of which secret and day

    def sign(
        self,
        keys: Keys,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        moment: datetime,
    ) -> dict[str, str]:
        """The headers, with those that sign them all, and the rest of the request.

        ``target`` is the path and the query as they are sent, quoted and sorted; among ``headers`` is the host, and no
        value has a space at an end or two together.
        """
        time = f"{moment:%Y%m%dT%H%M%SZ}"
        digest = hashlib.sha256(body).hexdigest()
        signed = {**headers, "X-Amz-Content-SHA256": digest, "X-Amz-Date": time}
        if keys.token:
            signed["X-Amz-Security-Token"] = keys.token
        lines = sorted((name.lower(), value) for name, value in signed.items())
        names = ";".join(name for name, _ in lines)
        path, _, query = target.partition("?")
        listed = "\n".join(f"{name}:{value}" for name, value in lines)
        request = f"{method}\n{path}\n{query}\n{listed}\n\n{names}\n{digest}"
        scope = f"{time[:8]}/{self._region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = _hmac(self._signing_key(keys.secret_key, time[:8]), text).hex()
        signed["Authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def _signing_key(self, secret: str, day: str) -> bytes:
        of_secret, of_day, key = self._key
        if (of_secret, of_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _hmac(key, part)
            self._key = (secret, day, key)
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
