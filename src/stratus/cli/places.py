"""From what was typed to repositories, writers and entries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stratus.errors import BadName, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from stratus.cli.reference import Reference
    from stratus.config import RepositoryConfig
    from stratus.formats.entries import Row
    from stratus.formats.manifest import Manifest
    from stratus.repository.repository import Repository
    from stratus.repository.revision import Revision
    from stratus.stores.contract import Store
    from stratus.trust.keys import RepositoryKeys
    from stratus.writers.api_client import ApiClient
    from stratus.writers.store_client import StoreClient
    from stratus.writers.store_writer import StoreWriter


def open_repository(name: str, public_key: Path | None) -> Repository:
    """The repository of a name or URL, to be read."""
    from stratus.repository.opening import open as open_name_or_url

    return open_name_or_url(name, public_key)


def open_owned(name: str, keys: Path | None) -> tuple[Store, str, RepositoryKeys]:
    """Store, name and keys of a repository that is ours. Raises NoSuchRepository, UsageError, NotPermitted."""
    from stratus.repository.opening import locate
    from stratus.trust.keys import RepositoryKeys

    fqrn, configured = locate(name)
    store = open_configured_store(fqrn, configured.store)
    return store, fqrn, RepositoryKeys.load(keys or _keys_directory(configured), fqrn)


def open_configured_store(fqrn: str, url: str | None) -> Store:
    """Raises UsageError if the configuration names none."""
    from stratus import config
    from stratus.stores.opening import open_store

    if url is None:
        raise UsageError(f"the configuration of {fqrn} names no store", hint=f"add it to {config.config_file()}")
    return open_store(url)


def open_writer(name: str, arguments: Namespace) -> tuple[StoreWriter, str]:
    """A writer by what the command line, the environment and the configuration say, and the repository's name.

    Whoever has the repository's keys commits here; whoever has a writer's key goes through the API.
    """
    from stratus import config
    from stratus.repository.opening import locate

    fqrn, configured = locate(name)
    api = _api(fqrn, configured, arguments, arguments.keys)
    if api is None:
        from stratus.writers.direct import DirectWriter

        if arguments.keys is None and configured.keys is None and not _has_keys(fqrn, configured):
            raise UsageError(
                f"nothing says how to publish to {fqrn}",
                hint="its owner gives --keys; others --api and --writer-key, or `api` and `writer_key` in "
                f"{config.config_file()}",
            )
        store, fqrn, loaded = open_owned(name, arguments.keys)
        return DirectWriter(store, fqrn, loaded, cache=config.cache_directory()), fqrn

    from stratus.writers.api import ApiWriter

    def verify(data: bytes) -> Manifest:
        from stratus.formats.manifest import Manifest

        open_repository(name, None).trust(data)
        return Manifest.parse(data)

    store = open_configured_store(fqrn, configured.store)
    return ApiWriter(store, _client(fqrn, *api), verify, config.cache_directory()), fqrn


def open_client(name: str, arguments: Namespace) -> ApiClient | StoreClient:
    """Whom to ask for leases, queue and receipts: the API if that is the way to publish, else the store."""
    from stratus.repository.opening import locate

    fqrn, configured = locate(name)
    api = _api(fqrn, configured, arguments, None)
    if api is not None:
        return _client(fqrn, *api)
    from stratus.writers.store_client import StoreClient

    return StoreClient(open_configured_store(fqrn, configured.store), fqrn)


def _client(fqrn: str, url: str, key: Path) -> ApiClient:
    from stratus.trust.writer_keys import WriterKey
    from stratus.writers.api_client import ApiClient

    return ApiClient(url, fqrn, WriterKey.load(key.expanduser()))


def _api(fqrn: str, configured: RepositoryConfig, arguments: Namespace, keys: Path | None) -> tuple[str, Path] | None:
    """The API's URL and the key for it, if that is the way; None if it is not.

    Flags go before the environment, that before the file, and there `keys` before `api` and `writer_key`; last come
    keys where they are if nobody says otherwise.
    """
    from stratus import config

    environment = config.api_of_environment()
    url = arguments.api or environment.api or configured.api
    key = arguments.writer_key or environment.writer_key or configured.writer_key
    by_flag = arguments.api is not None or arguments.writer_key is not None
    if keys is not None and by_flag:
        raise UsageError("--keys goes without the API", hint="leave out --keys, or --api and --writer-key")
    if keys is not None:
        return None
    asked = by_flag or environment.api is not None or environment.writer_key is not None
    if not asked and configured.keys is not None and _has_keys(fqrn, configured):
        return None
    if url is not None and key is not None:
        return url, Path(key)
    if by_flag:
        raise UsageError(
            f"the way through the API to {fqrn} takes its URL and a writer's key",
            hint="give --writer-key, or STRATUS_WRITER_KEY, too" if key is None else "give --api, or STRATUS_API, too",
        )
    return None


def _has_keys(fqrn: str, configured: RepositoryConfig) -> bool:
    return (_keys_directory(configured) / f"{fqrn}.key").exists()


def _keys_directory(configured: RepositoryConfig) -> Path:
    from stratus import config

    return Path(configured.keys).expanduser() if configured.keys else config.keys_directory()


def newest_only(reference: Reference) -> None:
    """Raises UsageError for a reference to an old revision, which cannot be changed."""
    if reference.revision is not None:
        raise UsageError("a revision never changes", hint="leave out what follows the @; a change makes a new revision")


def row_at(revision: Revision, path: bytes) -> Row:
    """The row at a path. Raises BadName, with the name that was probably meant."""
    from stratus.formats import paths

    row = revision.tree.row(path)
    if row is None:
        above = paths.parent(path)
        names = {paths.display(entry.path): entry for entry in revision.list(above)}
        import difflib

        close = difflib.get_close_matches(paths.display(path), names, 1)
        hint = f"did you mean {close[0]}?" if close else "`stratus ls` shows what is there"
        raise BadName(f"there is no {paths.display(path)} in revision {revision.number}", hint=hint, path=path)
    return row
