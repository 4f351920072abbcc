"""Records of token issuers, ``issuers/<id>``: whose tokens are believed here, and what they permit to whom.

Changed by ``Match`` only. An issuer without rules lets nobody in; its record stays, since others may write it again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from stratus.errors import BadFormat, UsageError
from stratus.formats import typed
from stratus.formats.key_record import Moment, Quota, is_path, short_id
from stratus.formats.records import new_nonce

Profile = Literal["oidc", "wlcg", "scitokens"]
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_MOST_RULES = 1000
_LONGEST_WRITER = 200  # characters


def issuer_id(issuer: str) -> str:
    """The id of an issuer, from the URL that its tokens have as ``iss``."""
    return short_id(b"issuer\0" + issuer.encode())


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Lets some of an issuer's tokens in.

    Attributes:
        claims: what the token must say, by name: text in which ``*`` stands for any characters, ``/`` too.
        grants: below which paths it may lease, with surrogate escapes; the root is "". Scopes may narrow them.
        writer: the writer's name, in which ``{claim}`` stands for what the token says.
        quota: of all bearers that this rule lets in together.
    """

    id: str
    claims: dict[str, str]
    grants: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    writer: Annotated[str, msgspec.Meta(min_length=1)]
    quota: Quota = Quota()

    @classmethod
    def new(
        cls, issuer: str, claims: Mapping[str, str], grants: Iterable[bytes], writer: str, quota: Quota = Quota()
    ) -> Rule:
        """Equal rules have equal ids."""
        texts = tuple(sorted({path.decode("utf-8", "surrogateescape") for path in grants}))
        named = json.dumps([issuer, sorted(claims.items()), texts, writer])
        return cls(
            id=short_id(b"rule\0" + named.encode()), claims=dict(claims), grants=texts, writer=writer, quota=quota
        )

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The grants as paths."""
        return tuple(grant.encode("utf-8", "surrogateescape") for grant in self.grants)

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token says all that it must; of a list of texts, one is enough."""
        return all(
            any(_matches(pattern, text) for text in _texts(claims.get(name))) for name, pattern in self.claims.items()
        )

    def name_of(self, claims: Mapping[str, Any]) -> str | None:
        """The writer's name, None if the token does not say what it is made of, or that cannot be part of a name."""
        missing = False

        def fill(found: re.Match[str]) -> str:
            nonlocal missing
            value = claims.get(found[1])
            missing |= not isinstance(value, str) or not value.strip()
            return str(value)

        name = _PLACEHOLDER.sub(fill, self.writer)
        return name if not missing and name.isprintable() and len(name) <= _LONGEST_WRITER else None


class IssuerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer.

    Attributes:
        issuer: the URL that its tokens have as ``iss``, exactly.
        audiences: at least one of them must be in a token's ``aud``.
        jwks_uri: where its public keys are; if empty, the issuer's configuration says so.
        profile: ``oidc`` (rules decide), ``wlcg`` or ``scitokens`` (scopes like ``storage.modify:/path`` narrow them).
        rules: the first that fits counts.
    """

    id: str
    issuer: str
    audiences: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    jwks_uri: str = ""
    profile: Profile = "oidc"
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=_MOST_RULES)] = ()
    created: Moment
    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0

    @classmethod
    def new(
        cls, issuer: str, audiences: Iterable[str], created: datetime, jwks_uri: str = "", profile: Profile = "oidc"
    ) -> IssuerRecord:
        """The first version, which lets nobody in. Raises UsageError without an audience."""
        wanted = tuple(sorted({audience for audience in audiences if audience}))
        if not wanted:
            raise UsageError(
                "an issuer's tokens are for somebody: without an audience, tokens for others would be good here",
                hint="give the audience that the tokens are asked for with",
            )
        return cls(
            id=issuer_id(issuer),
            issuer=issuer,
            audiences=wanted,
            jwks_uri=jwks_uri,
            profile=profile,
            created=created.astimezone(UTC).replace(microsecond=0),
        )

    def with_rule(self, rule: Rule) -> IssuerRecord:
        """The next version, with this rule after the others, or in the place of the one with its id. UsageError."""
        if self.profile == "oidc" and not rule.claims:
            raise UsageError(
                f"everybody who gets a token of {self.issuer} would be let in",
                hint="say what the token must claim, such as repository=org/name",
            )
        if len(self.rules) >= _MOST_RULES:
            raise UsageError(f"{self.issuer} has {_MOST_RULES} rules already", hint="remove some")
        known = [one.id for one in self.rules]
        if rule.id in known:
            return self._next([rule if one.id == rule.id else one for one in self.rules])
        return self._next([*self.rules, rule])

    def without_rule(self, rule: str | None) -> IssuerRecord:
        """The next version without one rule, or without any; itself if there is none."""
        left = [one for one in self.rules if rule is not None and one.id != rule]
        return self if len(left) == len(self.rules) else self._next(left)

    def _next(self, rules: Iterable[Rule]) -> IssuerRecord:
        return msgspec.structs.replace(self, rules=tuple(rules), gen=self.gen + 1, nonce=new_nonce())

    def pack(self) -> bytes:
        """As JSON in ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> IssuerRecord:
        """Raises BadFormat, also where the id is not that of the issuer or a grant is no path."""
        try:
            record = typed.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not a token issuer: {error}") from error
        if record.id != issuer_id(record.issuer):
            raise BadFormat(f"the record of the token issuer {record.id} is another one's")
        for rule in record.rules:
            if not all(map(is_path, rule.paths)) or (record.profile == "oidc" and not rule.claims):
                raise BadFormat(f"the rule {rule.id} of the token issuer {record.issuer} lets in whom it should not")
        return record


def _texts(value: Any) -> list[str]:
    """What can be compared of a claim."""
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values if isinstance(one, str | int)]


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
