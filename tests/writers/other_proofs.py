"""What a writer does who has no key of its own, but a token or a shared secret, on whatever bucket."""

from __future__ import annotations

import pytest

from stratus.errors import NotPermitted
from stratus.formats.issuer_record import Rule
from stratus.leases import token_issuers, writer_keys
from stratus.stores import flows
from stratus.stores.http import HttpStore
from stratus.trust.credentials import Credential, KeyCredential, TokenCredential
from stratus.trust.gateway_keys import GatewayKey
from stratus.writers.api import ApiWriter
from stratus.writers.api_client import ApiClient
from stratus.writers.publish import publish
from tests import issuers
from tests.repositories import FQRN, Files, content, problems
from tests.writers.bucket import LAYOUT, Bucket


def publishes_with_a_token(bucket: Bucket) -> None:
    """Of an issuer that is asked for its keys; then the issuer is removed."""
    with issuers.serving() as issuer:
        rule = Rule.new(issuer.url, {"repository": "lhcb/*"}, [b"/sw"], "{repository}@ci")
        flows.run(token_issuers.add(LAYOUT, issuer.url, [issuers.AUDIENCE], "", "oidc", rule), bucket.store)
        credential = TokenCredential(issuer.token(repository="lhcb/software"))
        _publishes(bucket, credential, "lhcb/software@ci")
        flows.run(token_issuers.remove(LAYOUT, issuer.url), bucket.store)
        _is_refused(bucket, credential)


def publishes_with_a_gateway_key(bucket: Bucket) -> None:
    """Whose secret the functions have in a file; then it is revoked."""
    key = GatewayKey.generate("portal")
    flows.run(writer_keys.create(LAYOUT, key.name, "portal", [b"/sw"]), bucket.store)
    key.save(bucket.directory / "keys" / f"{FQRN}-portal.gw")
    _publishes(bucket, KeyCredential(key), "portal")
    flows.run(writer_keys.revoke(LAYOUT, key.id), bucket.store)
    _is_refused(bucket, KeyCredential(key))


def _publishes(bucket: Bucket, credential: Credential, writer: str) -> None:
    road = _writer(bucket, credential)
    receipt = publish(road, FQRN, b"/sw", [Files({"a": b"one", "big": bytes(range(256)) * 2000})], road.name)
    assert (receipt.state, receipt.writer) == ("published", writer)
    assert content(HttpStore(bucket.public))["sw/a"] == b"one"
    assert problems(bucket.store, data=True) == []
    with pytest.raises(NotPermitted, match="is not for /other"):
        publish(road, FQRN, b"/other", [Files({"a": b"one"})], road.name)


def _is_refused(bucket: Bucket, credential: Credential) -> None:
    road = _writer(bucket, credential)
    with pytest.raises(NotPermitted):
        publish(road, FQRN, b"/sw", [Files({"b": b"two"})], road.name)
    assert "sw/b" not in content(HttpStore(bucket.public))


def _writer(bucket: Bucket, credential: Credential) -> ApiWriter:
    return ApiWriter(HttpStore(bucket.public), ApiClient(bucket.url, FQRN, credential), bucket._verify)
