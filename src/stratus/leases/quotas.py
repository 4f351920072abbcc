"""Quotas of writers' keys, counted by markers instead of a counter, so that nobody waits for anybody.

Each lease has a marker beside its claim, ``quotas/<key>/leases/<lease>``, and each batch of granted uploads one whose
name says how much it is, ``quotas/<key>/used/<day>-<bytes>-<objects>-<nonce>``. Whoever wants more writes the marker
first and looks then, so that of several who come at once none slips through: rather all are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from stratus.errors import QuotaExceeded
from stratus.formats.claim import Claim
from stratus.formats.key_record import Quota
from stratus.formats.lease_marker import LeaseMarker
from stratus.formats.records import new_nonce
from stratus.leases.holding import is_expired
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Blob, Stat
from stratus.stores.flows import Flow

_LOOKED_AT = 32  # of the oldest leases, when there are too many: what is left over is among them
_YOUNG = timedelta(seconds=60)  # in which a claim may still come to its marker
_LEASES, _USED = "leases/", "used/"
_FULL = 15  # seconds after which a lease may have ended


def holder_of(claim: Claim) -> str:
    """The id of the key that a lease was granted to."""
    return claim.request.partition(" ")[0]


def marker_key(layout: Layout, holder: str, lease: str) -> str:
    return layout.quota(holder, f"{_LEASES}{lease}")


# -- leases ----------------------------------------------------------------------------------------------------------


def enter(layout: Layout, holder: str, lease: str, claim: str, most: int) -> Flow[bool]:
    """Counts a lease whose claim, at the key ``claim``, is put at the same time; whether that is not too many.

    Leases that have ended and left their markers behind are found then, the oldest first.
    """
    yield from flows.put(marker_key(layout, holder, lease), LeaseMarker(claim).pack())
    stats = yield from flows.list_keys(layout.quota(holder, _LEASES))
    if len(stats) <= most:
        return True
    oldest = sorted(stats, key=lambda stat: (stat.modified, stat.key))[:_LOOKED_AT]
    ended = yield from _ended(layout, oldest)
    if ended:
        yield from flows.delete(ended)
    return len(stats) - len(ended) <= most


def leave(layout: Layout, holder: str, lease: str) -> Flow[None]:
    """The lease counts no more. It is the last that is asked for it, so nothing is raised but StoreError."""
    yield from flows.delete([marker_key(layout, holder, lease)])


def find_marker(layout: Layout, claim: Claim) -> Flow[LeaseMarker | None]:
    """The marker of a lease that came through the API."""
    blob = yield from flows.find(marker_key(layout, holder_of(claim), claim.id))
    return None if blob is None else LeaseMarker.parse(blob.data)


def too_many(most: int) -> QuotaExceeded:
    """The error for a key that has as many leases as it may."""
    return QuotaExceeded(
        f"the key has {most} leases already, which is all that it may have",
        hint="wait until they end, release some, or ask the repository's owner for a larger quota",
        retry_after=_FULL,
    )


def _ended(layout: Layout, stats: Sequence[Stat]) -> Flow[list[str]]:
    """The markers of leases that are over."""
    blobs = yield from flows.together([flows.find(stat.key) for stat in stats])
    found = [(stat, LeaseMarker.parse(blob.data)) for stat, blob in zip(stats, blobs, strict=True) if blob is not None]
    asked = [(flows.find(marker.claim), flows.find(layout.receipt(_lease(stat.key)))) for stat, marker in found]
    answers = yield from flows.together([flows.both(*both) for both in asked])
    now = yield from flows.now()
    return [
        stat.key
        for (stat, _), (claim, receipt) in zip(found, answers, strict=True)
        if _is_over(stat, claim, receipt is not None, now)
    ]


def _is_over(stat: Stat, blob: Blob | None, has_receipt: bool, now: datetime) -> bool:
    if blob is None:  # as at the very beginning
        return has_receipt or now - stat.modified > _YOUNG
    claim = Claim.parse(blob.data)
    return claim.state == "dead" or is_expired(claim, blob, now)


def _lease(marker: str) -> str:
    return marker.rpartition("/")[2]


# -- uploads ---------------------------------------------------------------------------------------------------------


def take(layout: Layout, holder: str, quota: Quota, size: int, count: int) -> Flow[None]:
    """Counts so many objects with so many bytes together. Raises QuotaExceeded, and counts nothing, if it is too much.

    What is granted a second time, since it was not used while the grant was good, counts a second time.
    """
    if not count or (quota.bytes_per_day is None and quota.objects_per_day is None):
        return
    now = yield from flows.now()
    day = f"{_USED}{now:%Y%m%d}-"
    own = layout.quota(holder, f"{day}{size}-{count}-{new_nonce()}")
    yield from flows.put(own, b"")
    stats = yield from flows.list_keys(layout.quota(holder, day))
    used = [tuple(map(int, stat.key.rpartition("/")[2].split("-")[1:3])) for stat in stats]
    for sums, most, what in (
        (sum(one[0] for one in used), quota.bytes_per_day, "bytes"),
        (sum(one[1] for one in used), quota.objects_per_day, "objects"),
    ):
        if most is not None and sums > most:
            yield from flows.delete([own])
            tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise QuotaExceeded(
                f"the key may upload {most} {what} a day, and this would make it {sums}",
                hint="go on tomorrow (UTC), or ask the repository's owner for a larger quota",
                retry_after=int((tomorrow - now).total_seconds()) + 1,
            )


# -- tidying up ------------------------------------------------------------------------------------------------------


def list_markers(layout: Layout) -> Flow[list[Stat]]:
    """All markers of all keys."""
    return (yield from flows.list_keys(layout.quota()))


def stale(layout: Layout, markers: Iterable[Stat], leases: set[str], now: datetime) -> list[str]:
    """The keys of those that count for nothing any more; ``leases`` are the ids of all that there were afterwards.

    A marker whose lease is not there is one whose lease is over, unless it is young.
    """
    yesterday = f"{now - timedelta(days=1):%Y%m%d}"  # clocks differ
    found: list[str] = []
    for stat in markers:
        what, _, name = stat.key.removeprefix(layout.quota()).partition("/")[2].partition("/")
        is_old = now - stat.modified > _YOUNG
        if (name not in leases and is_old) if f"{what}/" == _LEASES else name[:8] < yesterday:
            found.append(stat.key)
    return found
