"""Where functions get secrets from: the keys of repositories, and those of gateway keys. Never from the store.

A provider is named by a text::

    file:///directory           <fqrn>.key .crt .pub .masterkey; <fqrn>.gw or <fqrn>-<name>.gw
    env:NAME                    a document in that variable, or its base64
    aws-sm:NAME                 a document in AWS Secrets Manager
    aws-ssm:/path               AWS Systems Manager: a parameter for each entry below the path
    vault:https://host/v1/secret/data/path      a document in a key-value store (version 2) like HashiCorp Vault's

A document is a JSON object: ``{"<fqrn>.key": PEM, "<fqrn>.crt": PEM, "<fqrn>.pub": PEM, "<fqrn>.masterkey": PEM,
"gateway/<name>": secret}``. It is kept for some minutes. No secret is in an error, a log or a ``repr``, and what holds
them cannot be pickled.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import unquote, urlsplit

from stratus.errors import NotPermitted, StratusError, UsageError
from stratus.formats.key_record import is_gateway_name
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.keys import RepositoryKeys

Document = Mapping[str, str]
_SUFFIXES = (".key", ".crt", ".pub", ".masterkey")
_FRESH = 300.0  # seconds that a document is good
_STALE = 3600.0  # seconds that it is made do with while the provider does not answer
_AGAIN = 10.0  # seconds between two attempts to read what failed, or lacked something
_HINT = "use file:///directory, env:NAME, aws-sm:NAME, aws-ssm:/path or vault:https://host/v1/secret/data/path"

_log = logging.getLogger(__name__)


class Secrets(Protocol):
    """Whoever has secrets; thread-safe."""

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        """Raises NotPermitted where there are none, BadFormat where they do not fit, StoreError."""

    def gateway_secret(self, fqrn: str, name: str) -> bytes:
        """The secret of the gateway key of that name. Raises NotPermitted where there is none, StoreError."""


def open_secrets(text: str) -> Secrets:
    """The provider of that name; nothing is read yet. Raises UsageError."""
    scheme, colon, rest = text.partition(":")
    if scheme == "file" and rest.startswith("/"):
        return FileSecrets(Path(unquote(urlsplit(text).path)))
    if not colon or not rest:
        raise UsageError(f"{text[:80]!r} names no provider of secrets", hint=_HINT)
    from stratus.trust import secret_sources

    match scheme:
        case "env":
            return DocumentSecrets(lambda: secret_sources.from_environment(rest), text)
        case "aws-sm":
            return DocumentSecrets(lambda: secret_sources.from_secrets_manager(rest), text)
        case "aws-ssm":
            return DocumentSecrets(lambda: secret_sources.from_parameters(rest), text)
        case "vault":
            return DocumentSecrets(lambda: secret_sources.from_vault(rest), text)
        case _:
            raise UsageError(f"{text[:80]!r} names no provider of secrets", hint=_HINT)


class EachItsOwn:
    """A provider for each repository."""

    def __init__(self, providers: Mapping[str, Secrets]) -> None:
        self._providers = providers

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        return self._of(fqrn).repository_keys(fqrn)

    def gateway_secret(self, fqrn: str, name: str) -> bytes:
        return self._of(fqrn).gateway_secret(fqrn, name)

    def _of(self, fqrn: str) -> Secrets:
        if fqrn not in self._providers:
            raise _no_keys(fqrn)
        return self._providers[fqrn]


class FileSecrets:
    """Keys in files of this machine; read again when the files have changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: dict[str, tuple[tuple[int, ...], RepositoryKeys]] = {}

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        directory = self._directory
        state = tuple(_changed(directory / f"{fqrn}{suffix}") for suffix in _SUFFIXES)
        known = self._loaded.get(fqrn)
        if known is None or known[0] != state:
            known = self._loaded[fqrn] = state, RepositoryKeys.load(directory, fqrn)
        return known[1]

    def gateway_secret(self, fqrn: str, name: str) -> bytes:
        if is_gateway_name(name):
            for file in (self._directory / f"{fqrn}-{name}.gw", self._directory / f"{fqrn}.gw"):
                key = GatewayKey.load(file) if file.exists() else None
                if key is not None and key.name == name:
                    return key.secret
        raise _no_gateway_key(name)

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not to be copied")


class DocumentSecrets:
    """Secrets of a document that somebody keeps, read when it is needed."""

    def __init__(self, read: Callable[[], Document], name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``name`` is for people. ``read`` raises StratusError."""
        self._read = read
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._document: Document | None = None
        self._keys: dict[str, RepositoryKeys] = {}
        self._of = self._tried = float("-inf")  # when the document was read, and when that was tried last

    def __repr__(self) -> str:
        return f"DocumentSecrets({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not to be copied")

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        with self._lock:
            document = self._having(f"{fqrn}.key")
            if fqrn not in self._keys:
                found = [document.get(f"{fqrn}{suffix}") for suffix in (".crt", ".key", ".pub")]
                certificate, key, public_key = (None if text is None else text.encode() for text in found)
                if certificate is None or key is None or public_key is None:
                    raise _no_keys(fqrn)
                master_key = document.get(f"{fqrn}.masterkey")
                master = None if master_key is None else master_key.encode()
                self._keys[fqrn] = RepositoryKeys.parse(fqrn, certificate, key, public_key, master)
            return self._keys[fqrn]

    def gateway_secret(self, fqrn: str, name: str) -> bytes:  # noqa: ARG002 (a document has one name for all)
        with self._lock:
            secret = self._having(f"gateway/{name}").get(f"gateway/{name}")
        if not secret:
            raise _no_gateway_key(name)
        return secret.encode()

    def _having(self, entry: str) -> Document:
        """The document as it was some minutes ago; a newer one if that lacks the entry."""
        now = self._clock()
        document = self._document
        fresh = now < self._of + (_FRESH if document is not None and entry in document else _AGAIN)
        if document is not None and (fresh or now < self._tried + _AGAIN):
            return document
        self._tried = now
        try:
            document = self._read()
        except StratusError as error:
            if document is None or now > self._of + _STALE:
                self._document = None
                raise
            _log.warning("secrets of %s cannot be read, those of before are used: %s", self._name, error)
            return document
        if document != self._document:
            self._keys.clear()
        self._document, self._of = document, now
        return document


def _no_keys(fqrn: str) -> NotPermitted:
    return NotPermitted(f"no keys of {fqrn} are here", hint="whoever runs the functions configures them")


def _no_gateway_key(name: str) -> NotPermitted:
    return NotPermitted(
        f"the secret of the gateway key {name[:64]!r} is not here",
        hint="whoever runs the functions gives it to their secret provider",
    )


def _changed(file: Path) -> int:
    """When a file has changed last, in ns; 0 if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
