"""Whose tokens are believed, and what is left of what they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from stratus.errors import NotPermitted, StoreError, UsageError
from stratus.formats.issuer_record import IssuerRecord, Profile, Rule
from stratus.formats.key_record import Quota
from stratus.trust.identity import Identity
from stratus.trust.issuer_keys import IssuerKeys
from stratus.trust.tokens import issuer_of, verify_token
from tests.issuers import AUDIENCE, KEY_ID, URL, Issuer, public_jwk, rsa_key

NOW = datetime.now(UTC)
ISSUER = Issuer()
DEEP = f"e30.{base64.urlsafe_b64encode(b'[' * 6000).decode()}.e30"
CI = Rule.new(URL, {"repository": "lhcb/*"}, [b"/lhcb"], "{repository}@ci", Quota(leases=3))


def record(*rules: Rule, profile: Profile = "oidc", issuer: Issuer = ISSUER) -> IssuerRecord:
    made = IssuerRecord.new(issuer.url, [AUDIENCE, "other"], NOW, profile=profile)
    for rule in rules or (CI,):
        made = made.with_rule(rule)
    return made


def verified(token: str, known: IssuerRecord | None = None, issuer: Issuer = ISSUER) -> Identity:
    return verify_token(token, record(issuer=issuer) if known is None else known, IssuerKeys(issuer.fetch))


def ci(**more: Any) -> str:
    return ISSUER.token(**{"repository": "lhcb/software", **more})


# -- who it is -------------------------------------------------------------------------------------------------------


def test_a_token_is_somebody_by_the_first_rule_that_fits() -> None:
    release = Rule.new(URL, {"repository": "lhcb/*", "ref": "refs/tags/*"}, [b""], "release")
    known = record(release, CI)
    found = verified(ci(), known)
    assert (found.id, found.writer, found.paths, found.quota.leases) == (CI.id, "lhcb/software@ci", (b"/lhcb",), 3)
    assert URL in found.proof
    assert "somebody" in found.proof
    assert found.expires is not None
    assert timedelta(minutes=5) < found.expires - datetime.now(UTC) < timedelta(minutes=7)
    assert verified(ci(ref="refs/tags/v1/2"), known).writer == "release"
    assert issuer_of(ci()) == URL


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": "other/lhcb/software"},
        {"repository": "lhcb"},
        {"repository": ["atlas/x"]},
        {"repository": None},
        {"repository": {"lhcb/": 1}},
        {"repository": "LHCB/x"},
    ],
)
def test_who_no_rule_is_for_is_nobody(claims: dict[str, Any]) -> None:
    with pytest.raises(NotPermitted, match="no rule"):
        verified(ci(**claims))


def test_claims_are_texts_switches_or_lists_and_all_must_fit() -> None:
    rule = Rule.new(URL, {"groups": "/lhcb/admins", "protected": "true"}, [b""], "{sub}")
    for groups, protected, good in (
        (["/x", "/lhcb/admins"], True, True),
        ("/lhcb/admins", "true", True),
        (["/x"], True, False),
        ("/lhcb/admins", False, False),
    ):
        token = ISSUER.token(groups=groups, protected=protected)
        if good:
            assert verified(token, record(rule)).writer == "somebody"
        else:
            with pytest.raises(NotPermitted):
                verified(token, record(rule))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 300, 7, None])
def test_a_writers_name_is_made_of_what_can_be_one(name: Any) -> None:
    rule = Rule.new(URL, {"sub": "*"}, [b""], "{who}")
    with pytest.raises(NotPermitted, match="name"):
        verified(ISSUER.token(who=name), record(rule))


# -- what is not believed --------------------------------------------------------------------------------------------


def refused(token: str, known: IssuerRecord | None = None, issuer: Issuer = ISSUER) -> str:
    with pytest.raises(NotPermitted) as caught:
        verified(token, known, issuer)
    parts = token.split(".")
    assert not any(len(part) > 8 and part in f"{caught.value} {caught.value.hint}" for part in parts)
    return str(caught.value)


def test_times_issuer_and_audience_must_fit() -> None:
    now = int(time.time())
    assert "expired" in refused(ci(exp=now - 70))
    verified(ci(exp=now - 50))  # clocks differ
    assert "not yet valid" in refused(ci(nbf=now + 70))
    assert "not yet valid" in refused(ci(iat=now + 70))
    assert "udience" in refused(ci(aud="somebody else"))
    refused(ci(aud=[]))
    verified(ci(aud=["x", "other"]))
    assert "issuer" in refused(ci(iss="https://other.example.org"))
    for claim in ("exp", "aud", "iss", "sub"):
        assert claim in refused(ISSUER.token(claim, repository="lhcb/software"))
    wrong: dict[str, Any]
    for wrong in ({"exp": "soon"}, {"exp": 1e300}, {"exp": 10**14}, {"aud": 7}, {"nbf": []}):
        refused(ci(**wrong))


def unsigned(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def payload() -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(ci(), options={"verify_signature": False})
    return found


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS256", "HS512", "ES256K", None, ["RS256"]])
def test_only_asymmetric_algorithms_are_believed(algorithm: Any) -> None:
    refused(unsigned({"alg": algorithm, "kid": KEY_ID, "typ": "JWT"}, payload()))


def test_a_public_key_is_no_secret() -> None:
    """Key confusion: the published key used as the secret of a MAC."""
    public = rsa_key().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), der, json.dumps(ISSUER.keys[0]).encode()):
        head = unsigned({"alg": "HS256", "kid": KEY_ID, "typ": "JWT"}, payload()).rpartition(".")[0]
        mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
        assert "HS256" in refused(f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


def test_a_secret_that_an_issuer_publishes_verifies_nothing() -> None:
    issuer = Issuer(keys=[{"kty": "oct", "k": base64.urlsafe_b64encode(bytes(32)).decode(), "kid": KEY_ID}])
    for algorithm in ("HS256", "RS256"):
        head = unsigned({"alg": algorithm, "kid": KEY_ID, "typ": "JWT"}, payload())
        refused(head, issuer=issuer)


def test_what_a_token_says_of_its_own_key_is_not_read() -> None:
    stranger = Issuer(key=rsa_key(which=1))
    own = public_jwk(stranger.key, KEY_ID)
    for headers in ({"jwk": own}, {"jku": "https://evil.example.org/jwks"}, {"x5u": "https://evil.example.org/x"}):
        fetched = len(ISSUER.fetched)
        assert "not signed with a key" in refused(stranger.token(repository="lhcb/software", headers=headers))
        assert not any("evil" in url for url in ISSUER.fetched[fetched:])


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.", "x" * 20_000, "..", "\xff.\xff.\xff", "e30.W1tb.", DEEP])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(NotPermitted):
        issuer_of(token)
    refused(token)


def test_a_changed_token_is_refused() -> None:
    head, body, signature = ci().split(".")
    other = ISSUER.token(repository="lhcb/software", sub="root").split(".")[1]
    assert "not signed with a key" in refused(f"{head}.{other}.{signature}")
    refused(f"{head}.{body}.{signature[:-8]}AAAAAAAA")
    refused(ci(headers={"crit": ["b64"], "b64": False}))


# -- keys ------------------------------------------------------------------------------------------------------------


def test_keys_of_all_good_kinds_are_used() -> None:
    for key, algorithm in (
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (rsa_key(), "PS256"),
    ):
        issuer = Issuer(key=key, algorithm=algorithm)
        assert verified(issuer.token(repository="lhcb/x"), issuer=issuer).writer == "lhcb/x@ci"


def test_a_key_is_only_used_for_what_it_is() -> None:
    for more in ({"use": "enc"}, {"alg": "RS512"}, {"kid": "second"}, {"kty": "EC"}, {"n": "AQAB"}):
        issuer = Issuer(keys=[public_jwk(rsa_key(), KEY_ID) | more])
        refused(issuer.token(repository="lhcb/x"), issuer=issuer)


def test_a_token_that_names_no_key_may_be_signed_with_any() -> None:
    issuer = Issuer(keys=[public_jwk(rsa_key(which=1), "one"), public_jwk(rsa_key(), "two")])
    token = jwt.encode(jwt.decode(ci(), options={"verify_signature": False}), rsa_key(), "RS256")
    assert verified(token, issuer=issuer).writer == "lhcb/software@ci"


class Ticking:
    """An issuer's keys, with a clock."""

    def __init__(self) -> None:
        self.issuer = Issuer(keys=[public_jwk(rsa_key(), KEY_ID)])
        self.now = 0.0
        self.keys = IssuerKeys(self.issuer.fetch, lambda: self.now)

    def fetches(self) -> int:
        return self.issuer.fetched.count(f"{URL}/jwks")

    def verify(self, token: str) -> Identity:
        return verify_token(token, record(issuer=self.issuer), self.keys)


def test_keys_are_kept_for_some_minutes_and_an_unknown_one_asks_again_but_not_often() -> None:
    ticking = Ticking()
    for ticking.now in (0.0, 1.0, 299.0):
        ticking.verify(ci())
    assert ticking.fetches() == 1
    ticking.now = 301.0
    ticking.verify(ci())
    assert ticking.fetches() == 2
    unknown = ISSUER.token(repository="lhcb/x", headers={"kid": "new"})
    for _ in range(50):
        with pytest.raises(NotPermitted):
            ticking.verify(unknown)
    assert ticking.fetches() == 2
    ticking.now = 332.0
    ticking.issuer.keys.append(public_jwk(rsa_key(), "new"))
    ticking.verify(unknown)
    assert ticking.fetches() == 3


def test_while_the_issuer_is_down_its_keys_are_good_for_an_hour() -> None:
    ticking = Ticking()
    ticking.verify(ci())
    ticking.issuer.down = True
    ticking.now = 3599.0
    ticking.verify(ci())
    ticking.now = 3700.0
    with pytest.raises(StoreError):
        ticking.verify(ci())
    fresh = Ticking()
    fresh.issuer.down = True
    for _ in range(3):
        with pytest.raises(StoreError):
            fresh.verify(ci())
    assert len(fresh.issuer.fetched) == 1


def test_keys_come_from_where_nobody_can_change_them_on_the_way() -> None:
    plain = Issuer("http://issuer.example.org")
    with pytest.raises(UsageError, match="https"):
        verified(plain.token(repository="lhcb/x"), record(issuer=plain), plain)
    other = Issuer()
    other.url = "https://somebody.example.org"
    known = IssuerRecord.new(URL, [AUDIENCE], NOW).with_rule(CI)
    with pytest.raises(StoreError, match="another issuer"):
        verify_token(ci(), known, IssuerKeys(lambda _: {"issuer": other.url, "jwks_uri": f"{URL}/jwks"}))
    with pytest.raises(StoreError, match="without https"):
        verify_token(ci(), known, IssuerKeys(lambda _: {"issuer": URL, "jwks_uri": "http://127.0.0.1/jwks"}))


# -- scopes ----------------------------------------------------------------------------------------------------------


def wlcg(version: Any, scope: Any) -> str:
    claims: dict[str, Any] = {"wlcg.ver": version, "scope": scope}
    return ISSUER.token(**claims)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ("storage.modify:/", [b"/lhcb", b"/shared/x"]),
        ("storage.modify:/lhcb", [b"/lhcb"]),
        ("openid storage.modify:/lhcb/ci/ storage.read:/", [b"/lhcb/ci"]),
        ("storage.modify:/shared storage.modify:/lhcb/a", [b"/lhcb/a", b"/shared/x"]),
        ("storage.modify:/lhcb%2Fa%20b", [b"/lhcb/a b"]),
        ("storage.modify:/lhcbextra", []),
        ("storage.modify:/lhcb/../shared/x", []),
        ("storage.modify:/lhcb/%2e%2e/shared/x", []),
        ("storage.modify://lhcb", []),
        ("storage.modify:lhcb", []),
        ("storage.modify", []),
        ("storage.create:/lhcb storage.read:/", []),
        ("write:/lhcb", []),
        ("", []),
        (None, []),
        (7, []),
    ],
)
def test_scopes_narrow_grants_by_components(scope: Any, left: list[bytes]) -> None:
    rule = Rule.new(URL, {}, [b"/lhcb", b"/shared/x"], "{sub}")
    known = record(rule, profile="wlcg")
    token = wlcg("1.0", scope)
    if left:
        assert verified(token, known).paths == tuple(left)
    else:
        assert "scope" in refused(token, known)


def test_scitokens_have_their_own_words() -> None:
    known = record(Rule.new(URL, {}, [b"/lhcb"], "{sub}"), profile="scitokens")
    assert verified(ISSUER.token(ver="scitoken:2.0", scope="write:/lhcb/a"), known).paths == (b"/lhcb/a",)
    listed = ISSUER.token(ver="scitoken:2.0", scope=["storage.modify:/lhcb/b", "read:/"])
    assert verified(listed, known).paths == (b"/lhcb/b",)
    for version in (None, "scitoken:1.0", "2.0", 2):
        refused(ISSUER.token(ver=version, scope="write:/lhcb"), known)


def test_a_profile_wants_its_own_tokens() -> None:
    known = record(Rule.new(URL, {}, [b""], "{sub}"), profile="wlcg")
    for version in (None, "2.0", 1):
        refused(wlcg(version, "storage.modify:/"), known)
