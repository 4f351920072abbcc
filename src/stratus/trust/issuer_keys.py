"""The public keys of token issuers (JWKS): fetched from where the issuer says that they are, kept for some minutes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stratus.errors import StoreError, StratusError, UsageError
from stratus.formats.issuer_record import IssuerRecord
from stratus.trust.fetching import fetch_json, is_safe

_FRESH = 300.0  # seconds that keys are good
_STALE = 3600.0  # seconds that they are made do with while the issuer does not answer
_AGAIN = 30.0  # seconds between two attempts to fetch what failed, or lacked a key

_log = logging.getLogger(__name__)

Jwk = Mapping[str, Any]


class _Known(msgspec.Struct):
    """What is known of one issuer; ``of`` is when that was fetched, ``tried`` when that was tried last."""

    keys: tuple[Jwk, ...] | None = None
    of: float = float("-inf")
    tried: float = float("-inf")


class IssuerKeys:
    """Fetches and keeps keys; thread-safe."""

    def __init__(
        self,
        fetch: Callable[[str], dict[str, Any]] = fetch_json,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], _Known] = {}

    def find(self, record: IssuerRecord, key_id: str | None) -> list[Jwk]:
        """The keys that can have signed a token which names this one; all, if it names none.

        For a key that is not known they are fetched again, but not too often. Raises StoreError, UsageError.
        """
        with self._lock:
            known = self._known.setdefault((record.issuer, record.jwks_uri), _Known())
            now = self._clock()
            found = _named(known.keys or (), key_id)
            if not (found and now < known.of + _FRESH) and now >= known.tried + _AGAIN:
                known.tried = now
                self._renew(known, record, now)
                found = _named(known.keys or (), key_id)
            if known.keys is None or now > known.of + _STALE:
                raise StoreError(f"the keys of {record.issuer} cannot be fetched at the moment", hint="try again later")
            return found

    def _renew(self, known: _Known, record: IssuerRecord, now: float) -> None:
        try:
            keys = self._fetch(self._location(record)).get("keys")
            if not isinstance(keys, list):
                raise StoreError(f"{record.issuer} has no list of keys", hint="check its `jwks_uri`")
        except StratusError as error:
            _log.warning("the keys of %s cannot be fetched: %s", record.issuer, error)
            if known.keys is None:
                raise
            return
        known.keys, known.of = tuple(key for key in keys if isinstance(key, dict)), now

    def _location(self, record: IssuerRecord) -> str:
        if record.jwks_uri:
            return record.jwks_uri
        if not is_safe(record.issuer):
            raise UsageError(f"the token issuer {record.issuer} has no https URL", hint="give --jwks-uri")
        found = self._fetch(f"{record.issuer.rstrip('/')}/.well-known/openid-configuration")
        where = found.get("jwks_uri")
        if found.get("issuer") != record.issuer or not isinstance(where, str):
            raise StoreError(f"the configuration of {record.issuer} is another issuer's", hint="check the issuer's URL")
        if record.issuer.startswith("https:") and not where.startswith("https:"):
            raise StoreError(f"the configuration of {record.issuer} names keys without https", hint="give --jwks-uri")
        return where


def _named(keys: tuple[Jwk, ...], key_id: str | None) -> list[Jwk]:
    return [key for key in keys if key_id is None or key.get("kid") == key_id]
