"""What a writer proves itself with to the API: a key, which signs each request, or a token, which is sent along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from stratus.errors import BadFormat, NotPermitted, UsageError
from stratus.trust.fetching import is_safe
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey

_GATEWAY_SUFFIX = ".gw"


class Credential(Protocol):
    """Whatever makes a request one of somebody; thread-safe."""

    @property
    def name(self) -> str:
        """For people and for names of files; no secret."""

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes, now: datetime) -> dict[str, str]:
        """The headers of this very request, with the proof. Raises UsageError, NotPermitted."""


@dataclass(frozen=True, slots=True)
class KeyCredential:
    """Signs with a writer's own key, or the secret of a gateway key."""

    key: WriterKey | GatewayKey

    @property
    def name(self) -> str:
        return f"key {self.key.id}"

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes, now: datetime) -> dict[str, str]:
        return sign(method, url, headers, body, self.key, now)


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """Sends a bearer token: that of a file, read each time since others renew it, or a text that stays the same."""

    source: Path | str = field(repr=False)

    @property
    def name(self) -> str:
        return "token"

    def headers(
        self,
        method: str,  # noqa: ARG002
        url: str,
        headers: Mapping[str, str],
        body: bytes,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
    ) -> dict[str, str]:
        if not is_safe(url):
            raise UsageError(
                f"a token is not sent to {url.partition('?')[0]}, where others could read it",
                hint="use https, or a key, which signs requests and stays here",
            )
        return {**headers, "Authorization": f"Bearer {self._token()}"}

    def _token(self) -> str:
        if isinstance(self.source, str):
            return _checked(self.source, "the environment")
        try:
            return _checked(self.source.read_text(), str(self.source))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a text"
            raise NotPermitted(
                f"cannot read the token in {self.source}: {why}", hint="name the file that has it, as `token_file`"
            ) from None


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token or token.count(".") < 2:
        raise BadFormat(f"there is no token in {where}", hint="it is one line, three parts with dots between them")
    return token


def open_key(file: Path) -> KeyCredential:
    """A writer's key from a file: ``.gw`` ones are gateway keys. Raises NotPermitted, BadFormat."""
    return KeyCredential(GatewayKey.load(file) if file.suffix == _GATEWAY_SUFFIX else WriterKey.load(file))
