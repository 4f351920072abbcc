"""The key of a writer: an Ed25519 pair, whose private half only the writer has; and what its record permits.

The private key is a PEM file (PKCS#8, not encrypted), as ``openssl genpkey -algorithm ed25519`` writes it. Its id is
made of the public key, so a file tells its own id.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stratus.errors import BadFormat, BadName, NotPermitted, UsageError
from stratus.formats import paths
from stratus.formats.key_record import KeyRecord, is_path, key_id

_OTHERS = 0o007  # permission bits of everybody


@dataclass(frozen=True, slots=True)
class WriterKey:
    """A writer's own key."""

    private_key: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> Self:
        """A new pair."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, file: Path) -> Self:
        """From a file. Raises NotPermitted if it cannot be read, or everybody can read it; BadFormat if it is none."""
        try:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                pem = opened.read()
        except OSError as error:
            raise NotPermitted(
                f"cannot read the writer's key {file}: {error.strerror}",
                hint="name the file that `stratus key create` wrote, as `writer_key` in config.toml",
            ) from error
        if mode & _OTHERS:
            raise NotPermitted(
                f"everybody on this machine may read the writer's key {file}",
                hint=f"`chmod 600 {file}`; if somebody may have copied it, `stratus key rotate` makes another one",
            )
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _no_key(file) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(file)
        return cls(key)

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self.private_key.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return key_id(self.public_key)

    def save(self, file: Path) -> None:
        """Writes a new file that only its owner can read. Raises UsageError if there is one, NotPermitted."""
        pem = self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(file, "xb", opener=_for_the_owner) as out:
                out.write(pem)
                out.flush()
                os.fsync(out.fileno())
        except FileExistsError as error:
            raise UsageError(
                f"{file} is there already", hint="keys are never overwritten: name another file"
            ) from error
        except OSError as error:
            raise NotPermitted(
                f"cannot write {file}: {error.strerror}", hint="name a file that is yours to write"
            ) from error


def _for_the_owner(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def _no_key(file: Path) -> BadFormat:
    return BadFormat(
        f"{file} holds no private key of a writer",
        hint="name the file that `stratus key create` wrote: an Ed25519 key in PEM form, not encrypted",
    )


def must_be_active(record: KeyRecord, now: datetime) -> None:
    """Raises NotPermitted for a key that was revoked or has expired; ``now`` is the store's."""
    if record.state == "revoked":
        raise NotPermitted(
            f"the key {record.id} of {record.writer} was revoked", hint="ask the repository's owner for another key"
        )
    if record.expires is not None and now >= record.expires:
        raise NotPermitted(
            f"the key {record.id} of {record.writer} expired at {record.expires:%Y-%m-%d %H:%M} UTC",
            hint="ask the repository's owner for another key (`stratus key rotate`)",
        )


def may_lease(record: KeyRecord, path: bytes | None, now: datetime) -> None:
    """Raises NotPermitted unless the key is good now and one of its grants contains the path, by components.

    None is a change that leaves the tree alone, such as a tag: it is the whole repository's, so it takes the root.
    Raises BadName for what is no path.
    """
    must_be_active(record, now)
    wanted = path or b""
    if not is_path(wanted):
        raise BadName(f"{paths.display(wanted)!r} is not a path in a repository", hint="write it as /a/b", path=wanted)
    if not any(paths.contains(grant, wanted) for grant in record.paths):
        granted = ", ".join(map(paths.display, record.paths))
        raise NotPermitted(
            f"the key {record.id} of {record.writer} is not for {paths.display(wanted)}",
            hint=f"it is for {granted}; ask the repository's owner for a key with another grant",
            path=wanted,
        )
