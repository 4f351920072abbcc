"""Who sent a request: a signature or a token, verified with what the store says of keys and issuers at this moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from stratus.endpoints.replays import Replays
from stratus.errors import NotPermitted, QuotaExceeded
from stratus.formats.key_record import KeyRecord
from stratus.formats.paths import check_fqrn
from stratus.functions.contract import Caller
from stratus.leases import token_issuers, writer_keys
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.identity import Identity, must_be_active
from stratus.trust.request_signatures import verify
from stratus.trust.secrets import Secrets

if TYPE_CHECKING:
    from stratus.trust.issuer_keys import IssuerKeys

SCHEMES = "Signature, Bearer"
_BEARER = "bearer "
_SAFE = frozenset(("GET", "HEAD"))
_MINUTE = 60.0  # seconds


class Sent(msgspec.Struct, frozen=True):
    """A request as it was sent; ``url`` is the one that writers use, ``host`` where it came from."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    host: str

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method not in _SAFE

    @property
    def is_signed(self) -> bool:
        return not {"signature", "signature-input"}.isdisjoint(self.headers)

    @property
    def token(self) -> str | None:
        """The bearer token, if there is one."""
        value = self.headers.get("authorization", "")
        return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else None

    @property
    def is_somebodys(self) -> bool:
        """Whether it says whose it is."""
        return self.is_signed or self.token is not None


class Authenticator:
    """Verifies requests; thread-safe. Records are read each time, so that what was revoked is refused at once."""

    def __init__(
        self,
        stores: Callable[[str], Store],
        secrets: Secrets,
        replays: Replays,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        issuer_keys: IssuerKeys | None = None,
    ) -> None:
        """``stores`` raises NoSuchRepository."""
        self._stores = stores
        self._secrets = secrets
        self._replays = replays
        self._now = now
        self._issuer_keys = issuer_keys
        self._rates = _Rates()

    def caller(self, repository: str, sent: Sent) -> Caller:
        """Who sent it. Names of headers are in lower case.

        Raises NotPermitted, BadSignature, QuotaExceeded, NoSuchRepository, StoreError.
        """
        if sent.is_signed and sent.token is not None:
            raise NotPermitted("the request has a signature and a token", hint="send one of the two")
        layout = Layout(check_fqrn(repository))
        identity = self._of_token(layout, sent) if sent.token is not None else self._of_signature(layout, sent)
        return Caller(identity, sent.host)

    def _of_signature(self, layout: Layout, sent: Sent) -> Identity:
        found: dict[str, KeyRecord] = {}

        def find_key(key_id: str) -> bytes | GatewayKey | None:
            record = flows.run(writer_keys.find(layout, key_id), self._stores(layout.fqrn))
            if record is None:
                return None
            found[key_id] = record
            if record.kind == "gateway":
                return GatewayKey(record.gateway, self._secrets.gateway_secret(layout.fqrn, record.gateway))
            return record.public_key

        now = self._now()
        signed = verify(sent.method, sent.url, sent.headers, sent.body, find_key, now)
        identity = Identity.of_key(found[signed.key_id])
        self._admit(identity, now)
        self._replays.once(layout.fqrn, signed, now, sent.changes)
        return identity

    def _of_token(self, layout: Layout, sent: Sent) -> Identity:
        from stratus.trust.issuer_keys import IssuerKeys
        from stratus.trust.tokens import issuer_of, verify_token

        token = sent.token or ""
        issuer = issuer_of(token)
        record = flows.run(token_issuers.find(layout, issuer), self._stores(layout.fqrn))
        if record is None or not record.rules:
            raise NotPermitted(
                f"tokens of {issuer[:200]!r} are not believed here",
                hint="the repository's owner says whose are, with `stratus issuer add`",
            )
        if self._issuer_keys is None:
            self._issuer_keys = IssuerKeys()
        identity = verify_token(token, record, self._issuer_keys)
        self._admit(identity, self._now())
        return identity

    def _admit(self, identity: Identity, now: datetime) -> None:
        must_be_active(identity, now)
        self._rates.count(identity, now)


class _Rates:
    """Requests a minute, by identity."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: dict[str, int] = {}

    def count(self, identity: Identity, now: datetime) -> None:
        """Raises QuotaExceeded for one too many."""
        most = identity.quota.requests_per_minute
        if most is None:
            return
        minute, second = divmod(now.timestamp(), _MINUTE)
        with self._lock:
            if minute != self._minute:
                self._minute = int(minute)
                self._counts.clear()
            count = self._counts[identity.id] = self._counts.get(identity.id, 0) + 1
        if count > most:
            raise QuotaExceeded(
                f"the {identity.proof} may send {most} requests a minute", retry_after=int(_MINUTE - second) + 1
            )
