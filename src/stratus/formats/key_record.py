"""Records of writers' keys, ``keys/<id>``: who a writer is and below which paths it may lease. No secret is in them.

Changed by ``Match`` only. Once revoked a key stays revoked, and its id, which is made of the public key (or of the name
of a gateway key, whose secret is with the secret provider), never stands for another one.
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
from stratus.formats import paths, typed
from stratus.formats.records import new_nonce

PUBLIC_KEY_SIZE = 32  # bytes, Ed25519
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Number = Annotated[int, msgspec.Meta(ge=1)]
_ID = re.compile(r"[a-z2-7]{20}")
_GATEWAY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def short_id(data: bytes) -> str:
    """20 characters of base32 over the SHA-256: what keys, issuers and their rules are known by."""
    return base64.b32encode(hashlib.sha256(data).digest()).decode()[:20].lower()


def key_id(public_key: bytes) -> str:
    """The id of an Ed25519 key, from the public key's 32 bytes."""
    return short_id(public_key)


def gateway_key_id(name: str) -> str:
    """The id of a gateway key, from the name that its ``.gw`` file has."""
    return short_id(b"gateway\0" + name.encode())


def is_gateway_name(text: str) -> bool:
    """Whether a gateway key may have this name: it becomes part of names in files, variables and URLs."""
    return _GATEWAY_NAME.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Whether this can be the id of a key at all; nothing else may become part of a store's key."""
    return _ID.fullmatch(text) is not None


def is_path(path: bytes) -> bool:
    """Whether this is the one form of a path; others could lead out of a grant."""
    parts = paths.components(path)
    return path == paths.join(parts) and not any(part in (b"", b".", b"..") or b"\0" in part for part in parts)


class Quota(msgspec.Struct, frozen=True):
    """How much one key may do, so that nobody fills the store or keeps everybody else out.

    Attributes:
        leases: open or sealed at once.
        bytes_per_day, objects_per_day: uploads that are granted in a day of UTC; stored bytes. None for no limit.
        requests_per_minute: to one process of the API.
    """

    leases: Number = 500
    bytes_per_day: Number | None = None
    objects_per_day: Number | None = None
    requests_per_minute: Number | None = None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one writer.

    Attributes:
        writer: whose it is; several keys may be one writer's.
        grants: below which paths it may lease, with surrogate escapes; the root is "".
        kind: a pair, whose private half only the writer has; or a secret that the writer shares with the functions.
        public_key: 32 bytes, Ed25519; base64 in JSON. Empty for a gateway key.
        gateway: the name of a gateway key.
        created, expires: UTC, to the second; without an end the key is good until it is revoked.
    """

    id: str
    writer: str
    grants: tuple[str, ...]
    kind: Literal["ed25519", "gateway"] = "ed25519"
    public_key: bytes = b""
    gateway: str = ""
    created: Moment
    expires: Moment | None = None
    state: Literal["active", "revoked"] = "active"
    comment: str = ""
    quota: Quota = Quota()
    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0

    @classmethod
    def new(
        cls,
        key: bytes | str,
        writer: str,
        grants: Iterable[bytes],
        created: datetime,
        lifetime: timedelta | None = None,
        comment: str = "",
        quota: Quota = Quota(),
    ) -> KeyRecord:
        """The first version, for the public key of a pair or the name of a gateway key.

        Raises UsageError without a writer's name or without a grant, or for what can be no name of a gateway key.
        """
        if isinstance(key, str) and not is_gateway_name(key):
            raise UsageError(
                f"a gateway key cannot have the name {key!r}", hint="use letters, digits, '.', '_' and '-', at most 64"
            )
        texts = tuple(sorted({path.decode("utf-8", "surrogateescape") for path in grants}))
        if not writer.strip() or not texts:
            raise UsageError("a key is somebody's, for some path", hint="give the writer's name and a path")
        created = created.astimezone(UTC).replace(microsecond=0)
        return cls(
            id=gateway_key_id(key) if isinstance(key, str) else key_id(key),
            writer=writer,
            grants=texts,
            kind="gateway" if isinstance(key, str) else "ed25519",
            public_key=b"" if isinstance(key, str) else key,
            gateway=key if isinstance(key, str) else "",
            created=created,
            expires=None if lifetime is None else created + lifetime,
            comment=comment,
            quota=quota,
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
            record = typed.convert(json.loads(data), cls)
        except ValueError as error:
            raise BadFormat(f"not a writer's key: {error}") from error
        if not _is_whole(record):
            raise BadFormat(f"the record of the writer's key {record.id} is another key's")
        if not all(map(is_path, record.paths)):
            raise BadFormat(f"the record of the writer's key {record.id} grants what is no path: {record.grants}")
        return record


def _is_whole(record: KeyRecord) -> bool:
    """Whether it has what its kind has, and its id is made of that."""
    if record.kind == "gateway":
        named = is_gateway_name(record.gateway) and record.id == gateway_key_id(record.gateway)
        return named and not record.public_key
    paired = len(record.public_key) == PUBLIC_KEY_SIZE and record.id == key_id(record.public_key)
    return paired and not record.gateway
