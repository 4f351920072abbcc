"""Records of writers' keys, ``keys/<id>``: who a writer is and below which paths it may lease. No secret is in them.

Changed by ``Match`` only. Once revoked a key stays revoked, and its id, which is made of the public key, never stands
for another one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from stratus.errors import BadFormat, UsageError
from stratus.formats import paths
from stratus.formats.records import new_nonce

PUBLIC_KEY_SIZE = 32  # bytes, Ed25519
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_ID = re.compile(r"[a-z2-7]{20}")


def key_id(public_key: bytes) -> str:
    """The id of a key: 20 characters of base32 over the SHA-256 of the public key's 32 bytes."""
    return base64.b32encode(hashlib.sha256(public_key).digest()).decode()[:20].lower()


def is_key_id(text: str) -> bool:
    """Whether this can be the id of a key at all; nothing else may become part of a store's key."""
    return _ID.fullmatch(text) is not None


def is_path(path: bytes) -> bool:
    """Whether this is the one form of a path; others could lead out of a grant."""
    parts = paths.components(path)
    return path == paths.join(parts) and not any(part in (b"", b".", b"..") or b"\0" in part for part in parts)


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one writer.

    Attributes:
        writer: whose it is; several keys may be one writer's.
        grants: below which paths it may lease, with surrogate escapes; the root is "".
        public_key: 32 bytes, Ed25519; base64 in JSON.
        created, expires: UTC, to the second; without an end the key is good until it is revoked.
    """

    id: str
    writer: str
    grants: tuple[str, ...]
    public_key: bytes
    created: Moment
    expires: Moment | None = None
    state: Literal["active", "revoked"] = "active"
    comment: str = ""
    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0

    @classmethod
    def new(
        cls,
        public_key: bytes,
        writer: str,
        grants: Iterable[bytes],
        created: datetime,
        lifetime: timedelta | None = None,
        comment: str = "",
    ) -> KeyRecord:
        """The first version. Raises UsageError without a writer's name or without a grant."""
        texts = tuple(sorted({path.decode("utf-8", "surrogateescape") for path in grants}))
        if not writer.strip() or not texts:
            raise UsageError("a key is somebody's, for some path", hint="give the writer's name and a path")
        created = created.astimezone(UTC).replace(microsecond=0)
        return cls(
            id=key_id(public_key),
            writer=writer,
            grants=texts,
            public_key=public_key,
            created=created,
            expires=None if lifetime is None else created + lifetime,
            comment=comment,
        )

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The grants as paths."""
        return tuple(grant.encode("utf-8", "surrogateescape") for grant in self.grants)

    @property
    def lifetime(self) -> timedelta | None:
        """From its creation to its end."""
        return None if self.expires is None else self.expires - self.created

    def revoked(self) -> KeyRecord:
        """The next version, which permits nothing any more; itself if it is revoked already."""
        return self if self.state == "revoked" else self._next(state="revoked")

    def ending(self, at: datetime) -> KeyRecord:
        """The next version, which ends then; itself if it ends earlier, or is revoked."""
        if self.state == "revoked" or (self.expires is not None and self.expires <= at):
            return self
        return self._next(expires=at.astimezone(UTC).replace(microsecond=0))

    def _next(self, **changes: object) -> KeyRecord:
        return msgspec.structs.replace(self, **changes, gen=self.gen + 1, nonce=new_nonce())

    def pack(self) -> bytes:
        """As JSON in ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> KeyRecord:
        """Raises BadFormat, also where the id is not that of the public key or a grant is no path."""
        try:
            record = msgspec.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not a writer's key: {error}") from error
        if len(record.public_key) != PUBLIC_KEY_SIZE or record.id != key_id(record.public_key):
            raise BadFormat(f"the record of the writer's key {record.id} has another public key")
        if not all(map(is_path, record.paths)):
            raise BadFormat(f"the record of the writer's key {record.id} grants what is no path: {record.grants}")
        return record
