"""Who somebody is, however that was proven, and what it may do."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stratus.errors import BadName, NotPermitted
from stratus.formats import paths
from stratus.formats.key_record import KeyRecord, Quota, is_path


class Identity(msgspec.Struct, frozen=True):
    """A writer, as a signature or a token proves it.

    Attributes:
        id: of the key; for a token, of the rule that lets its bearer in. 20 characters, fit for keys of the store.
        writer: the name that is written into every revision.
        paths: below which it may lease.
        quota: of all that have this id together.
        proof: for people, such as ``key abc…`` or ``token of https://… for repo:org/name``.
        expires: UTC, by the store's clock.
    """

    id: str
    writer: str
    paths: tuple[bytes, ...]
    quota: Quota
    proof: str
    expires: datetime | None = None
    revoked: bool = False

    @classmethod
    def of_key(cls, record: KeyRecord) -> Identity:
        """The one that a writer's key proves, as its record says now."""
        revoked = record.state == "revoked"
        return cls(record.id, record.writer, record.paths, record.quota, f"key {record.id}", record.expires, revoked)


def must_be_active(identity: Identity, now: datetime) -> None:
    """Raises NotPermitted for a key that was revoked or has expired; ``now`` is the store's."""
    if identity.revoked:
        raise NotPermitted(
            f"the {identity.proof} of {identity.writer} was revoked", hint="ask the repository's owner for another key"
        )
    if identity.expires is not None and now >= identity.expires:
        raise NotPermitted(
            f"the {identity.proof} of {identity.writer} expired at {identity.expires:%Y-%m-%d %H:%M} UTC",
            hint="get a new token, or ask the repository's owner for another key (`stratus key rotate`)",
        )


def may_lease(identity: Identity, path: bytes | None, now: datetime) -> None:
    """Raises NotPermitted unless the identity is good now and one of its grants contains the path, by components.

    None is a change that leaves the tree alone, such as a tag: it is the whole repository's, so it takes the root.
    Raises BadName for what is no path.
    """
    must_be_active(identity, now)
    wanted = path or b""
    if not is_path(wanted):
        raise BadName(f"{paths.display(wanted)!r} is not a path in a repository", hint="write it as /a/b", path=wanted)
    if not any(paths.contains(grant, wanted) for grant in identity.paths):
        granted = ", ".join(map(paths.display, identity.paths)) or "no path at all"
        raise NotPermitted(
            f"the {identity.proof} of {identity.writer} is not for {paths.display(wanted)}",
            hint=f"it is for {granted}; ask the repository's owner for another grant",
            path=wanted,
        )
