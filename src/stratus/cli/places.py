"""From what was typed to repositories, writers and entries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stratus.errors import BadName, UsageError

if TYPE_CHECKING:
    from stratus.cli.reference import Reference
    from stratus.formats.entries import Row
    from stratus.repository.repository import Repository
    from stratus.repository.revision import Revision
    from stratus.stores.contract import Store
    from stratus.trust.keys import RepositoryKeys
    from stratus.writers.direct import DirectWriter


def open_repository(name: str, public_key: Path | None) -> Repository:
    """The repository of a name or URL, to be read."""
    from stratus.repository.opening import open as open_name_or_url

    return open_name_or_url(name, public_key)


def open_owned(name: str, keys: Path | None) -> tuple[Store, str, RepositoryKeys]:
    """Store, name and keys of a repository that is ours. Raises NoSuchRepository, UsageError, NotPermitted."""
    from stratus import config
    from stratus.repository.opening import locate
    from stratus.trust.keys import RepositoryKeys

    fqrn, configured = locate(name)
    store = open_configured_store(fqrn, configured.store)
    directory = keys or (Path(configured.keys).expanduser() if configured.keys else config.keys_directory())
    return store, fqrn, RepositoryKeys.load(directory, fqrn)


def open_configured_store(fqrn: str, url: str | None) -> Store:
    """Raises UsageError if the configuration names none."""
    from stratus import config
    from stratus.stores.opening import open_store

    if url is None:
        raise UsageError(f"the configuration of {fqrn} names no store", hint=f"add it to {config.config_file()}")
    return open_store(url)


def open_writer(name: str, keys: Path | None) -> tuple[DirectWriter, str]:
    """A writer for a repository that is ours, and the repository's name."""
    from stratus import config
    from stratus.writers.direct import DirectWriter

    store, fqrn, loaded = open_owned(name, keys)
    return DirectWriter(store, fqrn, loaded, cache=config.cache_directory()), fqrn


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
