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
    from stratus.trust.credentials import Credential
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

    Whoever has the repository's keys commits here; whoever has a writer's key goes through the API, and reads what is
    public: from the configured store, or where `stratus serve` has it, beside the API.
    """
    from stratus import config

    fqrn, configured = _locate(name, arguments)
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
        from stratus.repository.opening import trusted_keys
        from stratus.repository.repository import Repository

        try:
            known = trusted_keys(fqrn, configured)
        except UsageError:
            return Manifest.parse(data)  # a forecast believes the API, as a publish does
        Repository(store, fqrn, known).trust(data)
        return Manifest.parse(data)

    client = _client(fqrn, *api)
    store = open_configured_store(fqrn, configured.store or f"{client.url}/cvmfs")
    return ApiWriter(store, client, verify, config.cache_directory()), fqrn


def open_client(name: str, arguments: Namespace) -> ApiClient | StoreClient:
    """Whom to ask for leases, queue and receipts: the API if that is the way to publish, else the store."""
    fqrn, configured = _locate(name, arguments)
    api = _api(fqrn, configured, arguments, None)
    if api is not None:
        return _client(fqrn, *api)
    from stratus.writers.store_client import StoreClient

    return StoreClient(open_configured_store(fqrn, configured.store), fqrn)


def _locate(name: str, arguments: Namespace) -> tuple[str, RepositoryConfig]:
    """As ``locate``; but where flags or the environment name an API, it need not be configured."""
    from stratus import config
    from stratus.errors import NoSuchRepository
    from stratus.formats.paths import check_fqrn
    from stratus.repository.opening import locate

    try:
        return locate(name)
    except NoSuchRepository:
        if arguments.api is None and config.api_of_environment().api is None:
            raise
        return check_fqrn(name), config.RepositoryConfig()


def _client(fqrn: str, url: str, credential: Credential) -> ApiClient:
    from stratus.writers.api_client import ApiClient

    return ApiClient(url, fqrn, credential)


def _api(
    fqrn: str, configured: RepositoryConfig, arguments: Namespace, keys: Path | None
) -> tuple[str, Credential] | None:
    """The API's URL and the key or token for it, if that is the way; None if it is not.

    Flags go before the environment, that before the file, and there `keys` before `api` and `writer_key`; last come
    keys where they are if nobody says otherwise.
    """
    from stratus import config

    environment = config.api_of_environment()
    url = arguments.api or environment.api or configured.api
    proofs = (
        (arguments.writer_key, arguments.token_file),
        (environment.writer_key, config.token_of_environment()),
        (configured.writer_key, configured.token_file and Path(configured.token_file).expanduser()),
    )
    by_flag = arguments.api is not None or any(proofs[0])
    if keys is not None and by_flag:
        raise UsageError("--keys goes without the API", hint="leave out --keys, or --api and --writer-key")
    if all(proofs[0]):
        raise UsageError("a key and a token are one too many", hint="leave out --writer-key or --token-file")
    if keys is not None:
        return None
    asked = by_flag or environment.api is not None or any(proofs[1])
    if not asked and configured.keys is not None and _has_keys(fqrn, configured):
        return None
    key, token = next(filter(any, proofs), (None, None))
    if url is not None and (key or token):
        from stratus.trust.credentials import TokenCredential, open_key

        return url, open_key(Path(key).expanduser()) if key else TokenCredential(token or "")
    if by_flag:
        lacking = "--api, or STRATUS_API" if key or token else "--writer-key, STRATUS_WRITER_KEY or --token-file"
        raise UsageError(
            f"the way through the API to {fqrn} takes its URL and a writer's key or token",
            hint=f"give {lacking}, too",
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
