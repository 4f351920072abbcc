"""Writers' keys in the store: make, find, list, rotate, revoke.

What is written is in force at once, since nobody keeps a copy. The records are never deleted, so that a key that was
revoked cannot come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from stratus.errors import BadName, Changed, Exists, NoSuchRepository, Unknown, UsageError
from stratus.formats import records
from stratus.formats.key_record import KeyRecord, Quota, is_key_id
from stratus.formats.records import Format
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Match
from stratus.stores.flows import Flow

_ATTEMPTS = 8


def create(
    layout: Layout,
    key: bytes | str,
    writer: str,
    grants: Iterable[bytes],
    lifetime: timedelta | None = None,
    comment: str = "",
    quota: Quota = Quota(),
) -> Flow[KeyRecord]:
    """A new key with these grants: the public half of a pair (32 bytes), or the name of a gateway key.

    Raises NoSuchRepository, UsageError, Unknown.
    """
    now, form = yield from flows.both(flows.now(), flows.find(layout.format))
    if form is None:
        raise NoSuchRepository(f"there is no repository {layout.fqrn} in that store", hint="check the name and the URL")
    records.parse(form.data, Format).check()
    record = KeyRecord.new(key, writer, grants, now, lifetime, comment, quota)
    yield from _put_first(layout, record)
    return record


def find(layout: Layout, key_id: str) -> Flow[KeyRecord | None]:
    """The record of a key as it is now; None for an id that is not known, or is none."""
    if not is_key_id(key_id):
        return None
    blob = yield from flows.find(layout.key(key_id))
    return None if blob is None else KeyRecord.parse(blob.data)


def list_all(layout: Layout) -> Flow[list[KeyRecord]]:
    """All keys, the oldest first; revoked and expired ones too."""
    stats = yield from flows.list_keys(layout.key())
    blobs = yield from flows.together([flows.find(stat.key) for stat in stats])
    found = [KeyRecord.parse(blob.data) for blob in blobs if blob is not None]
    return sorted(found, key=lambda record: (record.created, record.id))


def revoke(layout: Layout, key_id: str) -> Flow[KeyRecord]:
    """The key permits nothing from now on. Raises BadName for an unknown one."""
    return (yield from _change(layout, key_id, KeyRecord.revoked))


def rotate(
    layout: Layout, key_id: str, public_key: bytes, overlap: timedelta = timedelta(0)
) -> Flow[tuple[KeyRecord, KeyRecord]]:
    """A new key of the same writer with the same grants, quota and lifetime; and the old one, ending after ``overlap``.

    The new one is there before the old one ends. Raises BadName for an unknown key, UsageError for a revoked one.
    """
    now = yield from flows.now()
    old = yield from find(layout, key_id)
    if old is None:
        raise _unknown(key_id)
    if old.state == "revoked":
        raise UsageError(
            f"the key {old.id} of {old.writer} was revoked", hint="make a new one with `stratus key create`"
        )
    new = KeyRecord.new(public_key, old.writer, old.paths, now, old.lifetime, old.comment, old.quota)
    yield from _put_first(layout, new)
    ends_at = now + overlap
    changed = yield from _change(
        layout, key_id, (lambda record: record.ending(ends_at)) if overlap > timedelta(0) else KeyRecord.revoked
    )
    return new, changed


def _put_first(layout: Layout, record: KeyRecord) -> Flow[None]:
    key = layout.key(record.id)
    try:
        yield from flows.put(key, record.pack(), ABSENT)
    except (Exists, Unknown):
        blob = yield from flows.find(key)
        if blob is None or KeyRecord.parse(blob.data).nonce != record.nonce:
            raise


def _change(layout: Layout, key_id: str, how: Callable[[KeyRecord], KeyRecord]) -> Flow[KeyRecord]:
    """Writes what ``how`` makes of the newest version, unless that changes nothing."""
    key = layout.key(key_id)
    for _ in range(_ATTEMPTS):
        blob = (yield from flows.find(key)) if is_key_id(key_id) else None
        if blob is None:
            raise _unknown(key_id)
        record = KeyRecord.parse(blob.data)
        changed = how(record)
        if changed is record:
            return record
        try:
            yield from flows.put(key, changed.pack(), Match(blob.version))
        except (Changed, Unknown):
            continue  # if it was ours that landed, the next look finds nothing to change
        return changed
    raise Changed(f"the key {key_id} is rewritten by others all the time", hint="try again in a moment")


def _unknown(key_id: str) -> BadName:
    return BadName(f"there is no key {key_id!r}", hint="`stratus key list` shows all keys")
