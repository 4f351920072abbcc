"""From a name or URL to a repository: what ``stratus.open`` does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from stratus import config
from stratus.config import RepositoryConfig
from stratus.errors import NoSuchRepository, NotPermitted, UsageError
from stratus.formats.paths import check_fqrn
from stratus.repository.repository import Repository
from stratus.stores.opening import open_store

_STOCK_KEYS = Path("/etc/cvmfs/keys")


def open(name_or_url: str, public_key: str | os.PathLike[str] | bytes | None = None) -> Repository:  # noqa: A001
    """The repository of a configured name, or at a URL (``<store>/<fqrn>``) or path.

    ``public_key`` is a PEM file or its bytes; by default it is looked for in the configuration, in the directory of
    keys, and where the stock client keeps them. Nothing of the repository is fetched yet.

    Raises NoSuchRepository for a name that is not configured, UsageError without a public key.
    """
    fqrn, configured = locate(name_or_url)
    if configured.store is None:
        raise UsageError(f"the configuration of {fqrn} names no store", hint=f"add it to {config.config_file()}")
    keys = [public_key] if isinstance(public_key, bytes) else trusted_keys(fqrn, configured, public_key)
    return Repository(open_store(configured.store), fqrn, keys)


def trusted_keys(fqrn: str, configured: RepositoryConfig, given: str | os.PathLike[str] | None = None) -> list[bytes]:
    """The public keys of a repository that is known here, PEM; or just the one given. Raises UsageError."""
    return [_read(path) for path in _key_files(fqrn, configured, given)]


def locate(name_or_url: str) -> tuple[str, RepositoryConfig]:
    """The name of a repository and what is configured for it. Raises NoSuchRepository, BadName."""
    known = config.repositories()
    if name_or_url in known:
        return name_or_url, known[name_or_url]
    if "/" not in name_or_url:
        raise _unknown(name_or_url, known)
    store, fqrn = split_url(name_or_url)
    return fqrn, RepositoryConfig(store=store, keys=known[fqrn].keys if fqrn in known else None)


def split_url(url: str) -> tuple[str, str]:
    """The store's URL and the name of the repository in it. Raises BadName."""
    if "://" not in url:
        path = Path(url).expanduser().absolute()
        return str(path.parent), check_fqrn(path.name)
    parts = urlsplit(url)
    base, _, fqrn = parts.path.rstrip("/").rpartition("/")
    return urlunsplit((parts.scheme, parts.netloc, base, parts.query, "")), check_fqrn(fqrn)


def _unknown(name: str, known: Iterable[str]) -> NoSuchRepository:
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else "give its URL (<store>/<name>), or create it with `stratus create`"
    return NoSuchRepository(f"no repository {name} is configured in {config.config_file()}", hint=hint)


def _key_files(fqrn: str, configured: RepositoryConfig, given: str | os.PathLike[str] | None) -> list[Path]:
    """The public key files to be trusted. Raises UsageError if there are none."""
    if given is not None:
        return [Path(given)]
    if configured.public_key is not None:
        return [Path(configured.public_key).expanduser()]
    own = Path(configured.keys).expanduser() if configured.keys is not None else config.keys_directory()
    domain = fqrn.partition(".")[2]
    stock = [_STOCK_KEYS / f"{fqrn}.pub", *sorted((_STOCK_KEYS / domain).glob("*.pub"))]
    found = [path for path in (own / f"{fqrn}.pub", *stock) if path.exists()]
    if not found:
        raise UsageError(
            f"no public key of {fqrn} is known here",
            hint="give the file with --public-key, or as `public_key` in config.toml; its owner hands it out",
        )
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotPermitted(
            f"cannot read the public key {path}: {error.strerror}", hint="give the right file with --public-key"
        ) from error
