"""Who may read a bucket: one statement per repository in the bucket's policy, beside those of others.

Read, changed and written back: two who do so at the same moment may undo each other, as S3 has no conditional write
for it. Running it again mends that.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from stratus.errors import Refused, StoreError, Unsuitable
from stratus.stores.contract import Store
from stratus.stores.s3 import S3Store
from stratus.stores.s3_place import Place

_VERSION = "2012-10-17"  # of the policy language
_LARGEST = 20 << 10  # bytes, S3's limit


def allow_reading(store: Store, fqrn: str) -> str | None:
    """Lets everybody read the public part of a repository; a store that is no bucket is left alone.

    None if that is so now; otherwise the policy (JSON) that an administrator has to set. Raises StoreError if the
    bucket cannot be reached.
    """
    if not isinstance(store, S3Store):
        return None
    statement = _statement(store.place, fqrn)
    return _replace(store, statement["Sid"], [statement])


def forbid_reading(store: Store, fqrn: str) -> str | None:
    """Removes what ``allow_reading`` added; gives back and raises the same."""
    if not isinstance(store, S3Store):
        return None
    return _replace(store, _statement(store.place, fqrn)["Sid"], [])


def _replace(store: S3Store, sid: str, statements: list[dict[str, Any]]) -> str | None:
    old: dict[str, Any] = {}
    try:
        old = _parse(store.policy())
    except (Refused, Unsuitable):
        return _text({"Version": _VERSION, "Statement": statements}) if statements else None
    present: list[Any] = old.get("Statement", [])
    own = [one for one in present if isinstance(one, dict) and one.get("Sid") == sid]
    if own == statements:
        return None
    kept = [one for one in present if one not in own]
    new = _text({"Version": _VERSION, **old, "Statement": kept + statements})
    if len(new) > _LARGEST and statements:
        raise StoreError(
            f"the policy of the bucket {store.place.bucket} has no room for another repository",
            hint="use another bucket, or have one statement in its policy allow all of its repositories",
        )
    try:
        store.set_policy(new if kept + statements else None)
    except (Refused, Unsuitable):
        return new
    return None


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        policy = json.loads(text)
        if isinstance(policy["Statement"], dict):
            policy["Statement"] = [policy["Statement"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the bucket's policy cannot be parsed: {error}", hint="look at it with your S3 tools"
        ) from error
    return dict(policy)


def _statement(place: Place, fqrn: str) -> dict[str, Any]:
    base = f"arn:aws:s3:::{place.bucket}/{place.prefix}"
    # A Sid is letters and digits only; one bucket may hold several stores.
    digest = hashlib.sha256(f"{place.prefix}{fqrn}".encode()).hexdigest()
    return {
        "Sid": f"stratus{digest[:20]}",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": [f"{base}{fqrn}/*", f"{base}info/*"],
    }


def _text(policy: dict[str, Any]) -> str:
    return json.dumps(policy, separators=(",", ":"))
