"""``stratus mount``: a repository as a read-only file system that follows new revisions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stratus.cli.parsing import Verbs, add_public_key, add_verb, positive, size
from stratus.errors import UsageError

if TYPE_CHECKING:
    from stratus.cli.reference import Reference
    from stratus.client.following import MountSource, News
    from stratus.config import RepositoryConfig
    from stratus.formats.compression import Compression
    from stratus.formats.hashes import ObjectId
    from stratus.repository.repository import Repository, Snapshot


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "mount",
        "mount a repository as a read-only file system",
        "stratus mount https://bucket.s3.amazonaws.com/software.example.org /mnt/software --public-key software.pub",
        "It follows new revisions, unless a revision, tag or date is given.",
    )
    parser.add_argument("reference", metavar="NAME|URL[@REVISION|TAG|DATE]", help="what to mount")
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="where (default: /cvmfs/NAME, made if it is not there)"
    )
    add_public_key(parser)
    parser.add_argument("--foreground", action="store_true", help="stay until it is unmounted")
    parser.add_argument(
        "--poll", metavar="SECONDS", type=positive, help="look for a new revision so often (default: what it says)"
    )
    parser.add_argument(
        "--notify", metavar="URL", help="hear of new revisions at once from this API (default: from the configuration)"
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where objects are kept; mounts may share it")
    parser.add_argument("--cache-limit", metavar="SIZE", type=size, help="how large the cache may grow, such as 20G")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus import config
    from stratus.cli.places import open_repository
    from stratus.cli.reference import Reference
    from stratus.client.mount import mount
    from stratus.repository.opening import locate

    reference = Reference.parse(arguments.reference)
    if reference.path:
        raise UsageError("only whole repositories can be mounted", hint="leave out what follows the colon")

    def open_source() -> MountSource:
        return _source(open_repository(reference.name, arguments.public_key), reference)

    where = mount(
        open_source,
        arguments.directory,
        cache=arguments.cache or config.cache_directory(),
        limit=arguments.cache_limit,
        poll=arguments.poll,
        news=() if reference.revision is not None else _news(*locate(reference.name), arguments.notify),
        foreground=arguments.foreground,
    )
    if arguments.directory is None and not arguments.foreground:
        print(where)
    return 0


def _news(fqrn: str, configured: RepositoryConfig, notify: str | None) -> list[News]:
    """Where there is to be heard of new revisions."""
    from stratus.client.file_news import FileNews
    from stratus.repository.layout import Layout
    from stratus.stores.directory import DirectoryStore
    from stratus.stores.opening import open_store

    news: list[News] = []
    api = notify or configured.api
    if api is not None:
        from stratus.client.api_news import ApiNews

        news.append(ApiNews(api, fqrn))
    store = None if configured.store is None else open_store(configured.store)
    if isinstance(store, DirectoryStore):
        news.append(FileNews(store.path / Layout(fqrn).manifest))
    return news


def _source(repository: Repository, reference: Reference) -> MountSource:
    if reference.revision is None:
        return repository
    return _Pinned(repository, repository.snapshot(reference.revision))


class _Pinned(NamedTuple):
    """A repository whose newest revision is always the same."""

    repository: Repository
    snapshot: Snapshot

    @property
    def fqrn(self) -> str:
        return self.repository.fqrn

    @property
    def host(self) -> str:
        return self.repository.host

    def latest(self) -> Snapshot:
        return self.snapshot

    def trust(self, manifest: bytes) -> Snapshot:  # noqa: ARG002
        return self.snapshot

    def fetch(self, object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        return self.repository.fetch(object_id, compression, size)
