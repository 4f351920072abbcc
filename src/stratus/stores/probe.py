"""Whether a store does what repositories need, found out by doing it in the very place."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from secrets import token_hex
from typing import Any, Self

import urllib3

from stratus.errors import BadFormat, Changed, Exists, Refused, StoreError, Unsuitable
from stratus.stores.contract import ABSENT, Match, Store, Version

_HINT = "choose a store with atomic conditional writes (S3, SeaweedFS, Ceph RGW without versioning, a local directory)"
_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do; ``conditional_puts`` and ``byte_prefixes`` are always true, as others are refused."""

    conditional_puts: bool
    byte_prefixes: bool  # a listing takes any beginning of a key
    grants: bool  # uploads can be granted by presigned requests
    checksums: bool  # it refuses a granted upload whose SHA-1 is not the granted one

    def to_json(self) -> dict[str, bool]:
        """As kept in ``format.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads that; a capability that is not named was not known then. Raises BadFormat."""
        found = {field.name: value.get(field.name, False) for field in fields(cls)}
        if not all(isinstance(one, bool) for one in found.values()):
            raise BadFormat("a store's capabilities are true or false")
        return cls(**found)


def probe(store: Store, prefix: str) -> Capabilities:
    """Writes, lists and deletes some keys below ``prefix`` (about a dozen requests).

    Raises Unsuitable if the store lacks atomic conditional writes or listings by byte prefix, and what the store
    raises if it cannot be used at all.
    """
    base = "/".join(filter(None, (prefix.strip("/"), f"probe-{token_hex(10)}")))
    key, listed, granted = f"{base}/value", f"{base}/list/a!b", f"{base}/granted"
    try:
        _check_conditions(store, key)
        store.put(listed, b"listed", ABSENT)
        found = [stat.key for stat in store.list(f"{base}/list/a!")]
        _require(found == [listed], f"{store.url} does not list keys by any beginning: {found} instead of {[listed]}")
        grants, checksums = _check_grants(store, granted)
    except BaseException:
        with contextlib.suppress(StoreError):
            store.delete([key, listed, granted])
        raise
    store.delete([key, listed, granted])
    return Capabilities(conditional_puts=True, byte_prefixes=True, grants=grants, checksums=checksums)


def _check_conditions(store: Store, key: str) -> None:
    def refused(action: Callable[[], Version], error: type[StoreError]) -> bool:
        try:
            action()
        except error:
            return True
        return False

    url = store.url
    _require(
        refused(lambda: store.put(key, b"a", Match(Version("0" * 32))), Changed),
        f"{url} ignores If-Match: it wrote a key that was not there",
    )
    first = store.put(key, b"a", ABSENT)
    _require(
        refused(lambda: store.put(key, b"b", ABSENT), Exists),
        f"{url} ignores If-None-Match: it replaced a key that exists (is versioning switched on?)",
    )
    second = store.put(key, b"b", Match(first))
    _require(
        refused(lambda: store.put(key, b"c", Match(first)), Changed),
        f"{url} ignores If-Match: it replaced a version that was not named",
    )
    third = store.put(key, b"a", Match(second))
    blob = store.get(key)
    _require(
        blob.data == b"a" and blob.version == third,
        f"{url} does not read what was written last: {blob.data!r}, version {blob.version} instead of {third}",
    )


def _check_grants(store: Store, key: str) -> tuple[bool, bool]:
    """Whether uploads can be granted, and whether a wrong body is refused."""
    try:
        grant = store.presign_put(key, hashlib.sha1(b"right").digest(), len(b"right"), timedelta(minutes=10))
    except (Unsuitable, Refused):
        return False, False
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as pool:
        try:
            wrong = pool.request("PUT", grant.url, body=b"wrong", headers=dict(grant.headers)).status
            right = pool.request("PUT", grant.url, body=b"right", headers=dict(grant.headers)).status
        except urllib3.exceptions.HTTPError as error:
            raise StoreError(f"no answer to a granted upload to {store.url}: {error}") from error
    if wrong == 200:
        return True, False
    return right == 200, right == 200 and wrong == 400


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unsuitable(otherwise, hint=_HINT)
