"""Bearer tokens: JSON Web Tokens of OpenID Connect, WLCG and SciTokens issuers, and what they permit.

The library validates signature, times, issuer and audience. The algorithm is one of a fixed list of asymmetric ones,
and the key one of those that the issuer publishes: what a token says of its own key (``jwk``, ``jku``, ``x5u``) is not
read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from stratus.errors import NotPermitted
from stratus.formats import paths
from stratus.formats.issuer_record import IssuerRecord, Rule
from stratus.formats.key_record import is_path
from stratus.trust.identity import Identity
from stratus.trust.issuer_keys import IssuerKeys, Jwk

LEEWAY = timedelta(seconds=60)  # of clocks
_LARGEST = 16 << 10  # bytes of a token
_RSA, _EC = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")), frozenset(("ES256", "ES384", "ES512"))
_ALGORITHMS: Mapping[str, frozenset[str]] = {"RSA": _RSA, "EC": _EC, "OKP": frozenset(("EdDSA",))}  # by type of key
_ALLOWED = sorted(set().union(*_ALGORITHMS.values()))
_LEAST_RSA = 2048  # bits
_REQUIRED = ["iss", "aud", "exp", "sub"]
_MODIFY: Mapping[str, tuple[str, ...]] = {"wlcg": ("storage.modify",), "scitokens": ("storage.modify", "write")}
_HINT = "get a new token for this very service"


def issuer_of(token: str) -> str:
    """Who says to have issued it: not proven, only good to find out whose keys must verify it. Raises NotPermitted."""
    if len(token) > _LARGEST:
        raise NotPermitted("the token is too large", hint=_HINT)
    try:
        found = jwt.decode_complete(token, options={"verify_signature": False})["payload"].get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise NotPermitted("what was sent as a token is none", hint=_HINT) from None
    if not isinstance(found, str):
        raise NotPermitted("the token does not say who issued it", hint=_HINT)
    return found


def verify_token(token: str, record: IssuerRecord, keys: IssuerKeys) -> Identity:
    """Who bears it, by the first rule that fits, with what is left of its grants.

    Raises NotPermitted, StoreError if the issuer's keys cannot be had.
    """
    claims = _claims(token, record, keys)
    rule = next((rule for rule in record.rules if rule.fits(claims)), None)
    if rule is None:
        raise NotPermitted(
            f"no rule lets in this token of {record.issuer} for {_shown(claims['sub'])}",
            hint="the repository's owner makes rules with `stratus issuer add`",
        )
    writer = rule.name_of(claims)
    if writer is None:
        raise NotPermitted(
            f"the token of {record.issuer} does not say what the writer's name {rule.writer!r} is made of", hint=_HINT
        )
    granted = _granted(rule, record, claims)
    if not granted:
        raise NotPermitted(
            f"no scope of the token of {record.issuer} permits to change a path that its rule is for",
            hint=f"ask for storage.modify: with a path below {', '.join(map(paths.display, rule.paths))}",
        )
    proof = f"token of {record.issuer} for {_shown(claims['sub'])}"
    return Identity(rule.id, writer, granted, rule.quota, proof, _expires(claims, record))


def _claims(token: str, record: IssuerRecord, keys: IssuerKeys) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise NotPermitted("what was sent as a token is none", hint=_HINT) from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in _ALLOWED or "crit" in header or not isinstance(key_id, str | None):
        raise NotPermitted(f"a token with the algorithm {_shown(algorithm)} is not believed", hint=_HINT)
    suitable = [key for key in map(_public_key_for(algorithm), keys.find(record, key_id)) if key is not None]
    if not suitable:
        raise NotPermitted(f"the token was not signed with a key of {record.issuer}", hint=_HINT)
    error: Exception | None = None
    for key in suitable:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=record.audiences,
                issuer=record.issuer,
                leeway=LEEWAY,
                options={"require": _REQUIRED},
            )
        except jwt.InvalidSignatureError as refused:
            error = refused
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as refused:
            raise NotPermitted(f"the token of {record.issuer} is not good: {refused}", hint=_HINT) from None
        else:
            return _of_profile(claims, record)
    raise NotPermitted(f"the token was not signed with a key of {record.issuer}", hint=_HINT) from error


def _public_key_for(algorithm: str) -> Any:
    def public_key(found: Jwk) -> Any:
        """The key, if it is a public one that is meant for this: never a secret, whoever published it."""
        kind = found.get("kty")
        if not isinstance(kind, str) or algorithm not in _ALGORITHMS.get(kind, ()) or found.get("use", "sig") != "sig":
            return None
        if found.get("alg", algorithm) != algorithm:
            return None
        try:
            key = jwt.PyJWK({**found}, algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA:
            return None
        return key if not hasattr(key, "private_bytes") else None

    return public_key


def _expires(claims: Mapping[str, Any], record: IssuerRecord) -> datetime:
    try:
        return datetime.fromtimestamp(int(claims["exp"]), UTC) + LEEWAY
    except (ValueError, OverflowError, OSError):
        raise NotPermitted(f"the token of {record.issuer} ends at no time", hint=_HINT) from None


def _of_profile(claims: dict[str, Any], record: IssuerRecord) -> dict[str, Any]:
    version = claims.get("wlcg.ver") if record.profile == "wlcg" else claims.get("ver")
    good = {
        "oidc": True,
        "wlcg": isinstance(version, str) and version.partition(".")[0] == "1",
        "scitokens": isinstance(version, str) and version.partition(":")[0::2] == ("scitoken", "2.0"),
    }
    if not good[record.profile]:
        raise NotPermitted(f"the token of {record.issuer} is none of the profile {record.profile}", hint=_HINT)
    return claims


def _granted(rule: Rule, record: IssuerRecord, claims: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The rule's grants, as far as the token's scopes permit to change what is there."""
    names = _MODIFY.get(record.profile)
    if names is None:
        return rule.paths
    allowed = [path for scope in _scopes(claims.get("scope")) if (path := _path_of(scope, names)) is not None]
    return tuple(sorted({path for grant in rule.paths for one in allowed for path in _common(grant, one)}))


def _common(one: bytes, other: bytes) -> Iterable[bytes]:
    """What is below both."""
    if paths.contains(one, other):
        return (other,)
    return (one,) if paths.contains(other, one) else ()


def _scopes(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split(" ")
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _path_of(scope: str, names: tuple[str, ...]) -> bytes | None:
    """The path of a scope that permits to change what is there; None for others, and for what is no path."""
    name, colon, text = scope.partition(":")
    if name not in names or not colon or not text.startswith("/"):
        return None
    path = unquote_to_bytes(text.encode()).removesuffix(b"/")
    return path if is_path(path) else None


def _shown(value: object) -> str:
    """For an error: short and in one line."""
    return repr(str(value)[:80])
