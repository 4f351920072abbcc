"""Who sent a request: its signature, verified with the key as it is in the store at this moment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from stratus.errors import NotPermitted
from stratus.formats.key_record import KeyRecord
from stratus.formats.paths import check_fqrn
from stratus.functions.contract import Caller
from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.trust.request_signatures import MAX_AGE, Signed, verify

FindKey = Callable[[str, str], KeyRecord | None]
"""The record of a writer's key, by repository and id, as it is now. Raises NoSuchRepository, StoreError."""
_MOST = 100_000  # nonces that are remembered


def find_key_in(stores: Callable[[str], Store]) -> FindKey:
    """Reads each time, so that a key that was revoked is refused at once."""

    def find(fqrn: str, key_id: str) -> KeyRecord | None:
        layout = Layout(check_fqrn(fqrn))
        return flows.run(writer_keys.find(layout, key_id), stores(fqrn))

    return find


class Authenticator:
    """Verifies requests, each once; thread-safe."""

    def __init__(self, find_key: FindKey, now: Callable[[], datetime]) -> None:
        self._find_key = find_key
        self._now = now
        self._lock = threading.Lock()
        self._nonces: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def caller(
        self, repository: str, method: str, url: str, headers: Mapping[str, str], body: bytes, host: str
    ) -> Caller:
        """Who signed it. Raises NotPermitted, BadSignature, NoSuchRepository, StoreError."""
        records: dict[str, KeyRecord] = {}

        def public_key(key_id: str) -> bytes | None:
            record = self._find_key(repository, key_id)
            if record is None:
                return None
            records[key_id] = record
            return record.public_key

        now = self._now()
        signed = verify(method, url, headers, body, public_key, now)
        self._once(signed, now)
        return Caller(records[signed.key_id], host)

    def _once(self, signed: Signed, now: datetime) -> None:
        """Raises NotPermitted for a request that came before."""
        name = signed.key_id, signed.nonce
        with self._lock:
            if name in self._nonces:
                raise NotPermitted("this very request came before", hint="sign each request anew")
            self._nonces[name] = now
            oldest = now - timedelta(seconds=2 * MAX_AGE)
            while self._nonces and (len(self._nonces) > _MOST or next(iter(self._nonces.values())) < oldest):
                self._nonces.popitem(last=False)
