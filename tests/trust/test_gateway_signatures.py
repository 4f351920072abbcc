"""The stock gateway's scheme, by its documented example."""

from __future__ import annotations

import hmac
from types import SimpleNamespace

import pytest

from stratus.errors import BadSignature, NotPermitted
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.gateway_signatures import sign, verify

BODY = b'{"path" : "test.repo.org/foo", "api_version" : "2", "hostname" : "rm1"}'
KEY = GatewayKey("key1", b"secret1")
HEADER = "key1 YmU2MzA5MzdiYTgyZGZlODVlMTUxZTE1NmVjOTUxNmYxNmVmYjRmNA=="
SECRETS = {"key1": b"secret1", "key2": b"secret2"}


def test_signatures_are_those_of_the_stock_tools() -> None:
    assert sign(BODY, KEY) == HEADER
    assert verify(HEADER, BODY, SECRETS.get) == "key1"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "key1",
        "key1 ",
        f"{HEADER}=",
        HEADER.replace(" ", "  "),
        HEADER.replace("key1", "key2"),
        "key1 \udcff",
        "../x y",
    ],
)
def test_what_does_not_hold_is_refused(header: str) -> None:
    with pytest.raises(BadSignature):
        verify(header, BODY, SECRETS.get)
    with pytest.raises(BadSignature):
        verify(HEADER, BODY + b" ", SECRETS.get)


def test_an_unknown_key_is_compared_as_a_known_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("stratus.trust.gateway_signatures.hmac", SimpleNamespace(compare_digest=compare, new=hmac.new))
    with pytest.raises(NotPermitted):
        verify(sign(BODY, GatewayKey("key9", b"")), BODY, SECRETS.get)
    assert compared == [56]
