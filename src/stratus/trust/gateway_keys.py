"""Gateway keys: a name and a secret that a writer shares with the functions, as the stock gateway has them.

A ``.gw`` file is one line, ``plain_text <name> <secret>``. The functions have the secret from their secret provider; in
the store is only a record of the name.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stratus.errors import BadFormat, NotPermitted, UsageError
from stratus.formats.key_record import gateway_key_id, is_gateway_name

_KIND = "plain_text"
_SECRET_BYTES = 32
_OTHERS = 0o007  # permission bits of everybody


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A shared secret and its name."""

    name: str
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Self:
        """A new secret. Raises UsageError for what can be no name."""
        if not is_gateway_name(name):
            raise UsageError(
                f"a gateway key cannot have the name {name!r}", hint="use letters, digits, '.', '_' and '-', at most 64"
            )
        return cls(name, secrets.token_urlsafe(_SECRET_BYTES).encode())

    @classmethod
    def parse(cls, text: bytes, where: str) -> Self:
        """From the content of a ``.gw`` file. Raises BadFormat, which does not show it."""
        words = text.split()
        if len(words) == 3 and words[0] == _KIND.encode() and is_gateway_name(words[1].decode("latin-1")):
            return cls(words[1].decode(), words[2])
        raise BadFormat(f"{where} holds no gateway key", hint=f"it is one line: {_KIND} NAME SECRET")

    @classmethod
    def load(cls, file: Path) -> Self:
        """From a file. Raises NotPermitted if it cannot be read, or everybody can read it; BadFormat if it is none."""
        try:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                text = opened.read()
        except OSError as error:
            raise NotPermitted(
                f"cannot read the gateway key {file}: {error.strerror}",
                hint="name the .gw file, as `writer_key` in config.toml",
            ) from error
        if mode & _OTHERS:
            raise NotPermitted(f"everybody on this machine may read the gateway key {file}", hint=f"`chmod 600 {file}`")
        return cls.parse(text, str(file))

    @property
    def id(self) -> str:
        return gateway_key_id(self.name)

    def save(self, file: Path) -> None:
        """Writes a new file that only its owner can read. Raises UsageError if there is one, NotPermitted."""
        save_new(file, f"{_KIND} {self.name} ".encode() + self.secret + b"\n")


def save_new(file: Path, content: bytes) -> None:
    """Writes a file that only its owner can read. Raises UsageError if there is one, NotPermitted."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file, "xb", opener=_for_the_owner) as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except FileExistsError as error:
        raise UsageError(f"{file} is there already", hint="keys are never overwritten: name another file") from error
    except OSError as error:
        raise NotPermitted(
            f"cannot write {file}: {error.strerror}", hint="name a file that is yours to write"
        ) from error


def _for_the_owner(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)
