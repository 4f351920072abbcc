"""The key of a writer: an Ed25519 pair, whose private half only the writer has.

The private key is a PEM file (PKCS#8, not encrypted), as ``openssl genpkey -algorithm ed25519`` writes it. Its id is
made of the public key, so a file tells its own id.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stratus.errors import BadFormat, NotPermitted
from stratus.formats.key_record import key_id
from stratus.trust.gateway_keys import save_new

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

    def __reduce__(self) -> tuple[Callable[[bytes], WriterKey], tuple[bytes]]:
        """For other processes of the same program, through a pipe."""
        return _of_raw, (self.private_key.private_bytes_raw(),)

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
        save_new(file, pem)


def _of_raw(private_key: bytes) -> WriterKey:
    return WriterKey(Ed25519PrivateKey.from_private_bytes(private_key))


def _no_key(file: Path) -> BadFormat:
    return BadFormat(
        f"{file} holds no private key of a writer",
        hint="name the file that `stratus key create` wrote: an Ed25519 key in PEM form, not encrypted",
    )
