"""The notification of a new revision: one message for streams, long polls and webhooks.

It is the stock tools' activity message (``cvmfs/notify/messages.cc``): ``version`` 1, ``timestamp``, ``type``
``activity``, ``repository``, ``manifest`` (base64 of the whole signed ``.cvmfspublished``). ``revision`` and ``root``
are added for those who only want to know; stock readers ignore them. One line of JSON, made of the manifest alone, so
that equal manifests give equal bytes. Nothing in it is to be trusted but a manifest that was verified.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Self

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.manifest import Manifest

VERSION = 1
SIZE_MAX = 1 << 20  # bytes of a message; a manifest has some hundred
MEDIA_TYPE = "application/json"


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    timestamp: str = ""
    type: str
    repository: str
    manifest: str
    revision: int = 0
    root: str = ""


class _Subscription(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    repository: str


class Notification(msgspec.Struct, frozen=True):
    """What a repository's newest manifest is, verified by nobody yet.

    Attributes:
        manifest: the bytes of ``.cvmfspublished``.
        repository, revision, root: as the manifest says.
        time: when it was published.
    """

    manifest: bytes
    repository: str
    revision: int
    root: str
    time: datetime

    @classmethod
    def of(cls, manifest: bytes) -> Self:
        """Of the bytes of a manifest. Raises BadFormat."""
        found = Manifest.parse(manifest)
        try:
            time = datetime.fromtimestamp(found.timestamp, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise BadFormat("a manifest of a time that does not exist") from error
        return cls(manifest, found.fqrn, found.revision, str(found.root), time)

    def pack(self) -> bytes:
        """One line of JSON, without its end."""
        return msgspec.json.encode(
            _Message(
                version=VERSION,
                timestamp=f"{self.time:%Y-%m-%dT%H:%M:%SZ}",
                type="activity",
                repository=self.repository,
                manifest=base64.b64encode(self.manifest).decode(),
                revision=self.revision,
                root=self.root,
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From anybody's activity message; what it says beside the manifest does not count, but the name must be equal.

        Raises BadFormat.
        """
        if len(data) > SIZE_MAX:
            raise BadFormat(f"a notification of {len(data)} bytes")
        try:
            message = typed.from_json(data, _Message)
            manifest = base64.b64decode(message.manifest, validate=True)
        except (msgspec.DecodeError, binascii.Error, ValueError) as error:
            raise BadFormat(f"not a notification: {error}") from error
        if (message.version, message.type) != (VERSION, "activity"):
            raise BadFormat(f"a message of type {message.type[:40]!r}, version {message.version}")
        found = cls.of(manifest)
        if found.repository != message.repository:
            raise BadFormat(f"a notification of {message.repository!r} with the manifest of {found.repository!r}")
        return found


def parse_subscription(data: bytes) -> str:
    """The repository that a stock client wants to hear of. Raises BadFormat."""
    try:
        return typed.from_json(data, _Subscription).repository
    except msgspec.DecodeError as error:
        raise BadFormat(f"not a subscription: {error}") from error
