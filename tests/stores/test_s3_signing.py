"""Botocore says what a signature is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from stratus.stores.s3_place import FixedKeys, Place
from stratus.stores.s3_signing import Signer

MOMENT = datetime(2026, 11, 26, 9, 8, 7, tzinfo=UTC)
KEYS = FixedKeys("AKIA", "secret/+")
ROLE = FixedKeys("ASIA", "secret", "token//+=")
PLACE = Place("s3://b", "b", "some/prefix/", "http://127.0.0.1:8333/b", "eu-west-1", KEYS)


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = f"{MOMENT:%Y%m%dT%H%M%SZ}"
        super()._modify_request_before_signing(request)


@pytest.mark.parametrize("keys", [KEYS, ROLE])
@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "body"),
    [
        ("GET", "a", None, {}, b""),
        ("HEAD", None, None, {}, b""),
        ("GET", "a b/ä+(1)~.-_%41", None, {"Range": "bytes=0-1"}, b""),
        ("PUT", "a!!b", None, {"Content-Type": "a/b", "If-Match": "0f"}, b"body"),
        ("GET", None, {"list-type": "2", "prefix": "a/é =&", "start-after": "~"}, {}, b""),
        ("POST", None, {"delete": ""}, {"Content-MD5": "x==", "Content-Type": "application/xml"}, b"<Delete/>"),
        ("PUT", "c", None, {"x-amz-copy-source": "/b/a%20b", "x-amz-metadata-directive": "REPLACE"}, b""),
    ],
)
def test_signatures_are_those_of_botocore(
    keys: FixedKeys, method: str, key: str | None, query: dict[str, str] | None, headers: dict[str, str], body: bytes
) -> None:
    url = PLACE.address(key, query)
    theirs = AWSRequest(method, url, headers, body)
    _Signer(keys, "s3", PLACE.region).add_auth(theirs)
    target = url.removeprefix("http://127.0.0.1:8333")
    fields = {"Host": "127.0.0.1:8333", **headers}
    assert Signer(PLACE.region).sign(keys, method, target, fields, body, MOMENT) == {
        "Host": "127.0.0.1:8333",
        **dict(theirs.headers.items()),
    }


def test_the_key_of_another_day_or_secret_is_another() -> None:
    signer = Signer("eu-west-1")
    for keys in (KEYS, ROLE):
        for moment in (MOMENT, MOMENT.replace(day=27)):
            fresh = Signer("eu-west-1").sign(keys, "GET", "/", {"Host": "h"}, b"", moment)
            assert signer.sign(keys, "GET", "/", {"Host": "h"}, b"", moment) == fresh
