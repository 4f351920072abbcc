"""A repository in a bucket, behind an API that alone has credentials for it; and writers who have keys."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from unittest import mock

from msgspec.structs import replace

from stratus.endpoints.server import Server
from stratus.endpoints.static import everything_in
from stratus.formats import records
from stratus.formats.key_record import Quota
from stratus.formats.manifest import Manifest
from stratus.formats.records import Format, Settings
from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.runtimes.local.budgets import default_budgets
from stratus.runtimes.local.service import Service
from stratus.runtimes.local.worker import Place
from stratus.stores import flows
from stratus.stores.http import HttpStore
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from stratus.trust.credentials import KeyCredential
from stratus.trust.writer_keys import WriterKey
from stratus.writers.api import ApiWriter
from stratus.writers.api_client import ApiClient
from tests.repositories import FQRN, keys, new_repository, reader

LAYOUT = Layout(FQRN)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What its owner has of it: ``store``; what everybody has: the URLs of the API and of what is public."""

    directory: Path
    url: str
    store: S3Store

    @property
    def public(self) -> str:
        """The URL of the store for readers."""
        return f"{self.store.place.base}/{self.store.place.prefix}".rstrip("/")

    def key(self, *grants: bytes, quota: Quota = Quota()) -> WriterKey:
        """A new key of alice's for these paths, by default for all."""
        key = WriterKey.generate()
        flows.run(writer_keys.create(LAYOUT, key.public_key, "alice", grants or (b"",), quota=quota), self.store)
        return key

    def client(self, key: WriterKey) -> ApiClient:
        return ApiClient(self.url, FQRN, KeyCredential(key))

    def writer(self, key: WriterKey | None = None) -> ApiWriter:
        return ApiWriter(HttpStore(self.public), self.client(key or self.key()), self._verify)

    def _verify(self, data: bytes) -> Manifest:
        reader(HttpStore(self.public)).trust(data)
        return Manifest.parse(data)

    def stage(self) -> None:
        """From now on the store is taken for one that does not look at the check sums of uploads."""
        form = records.parse(self.store.get(LAYOUT.format).data, Format)
        form = replace(form, capabilities={**form.capabilities, "checksums": False})
        self.store.put(LAYOUT.format, records.pack(form))

    def staged(self) -> list[str]:
        """What is staged."""
        return [stat.key for stat in self.store.list(f"{LAYOUT.private}staging/")]

    def stratus(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """The command line of a stranger with a key: an environment without any credentials."""
        config = self.directory / "stranger.toml"
        key, public_key = self.directory / "key.pem", self.directory / f"{FQRN}.pub"
        if not config.exists():
            self.key().save(key)
            public_key.write_bytes(keys().public_key)
            config.write_text(
                f'[repositories."{FQRN}"]\nstore = "{self.public}"\npublic_key = "{public_key}"\n'
                f'api = "{self.url}"\nwriter_key = "{key}"\n'
            )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STRATUS_"))}
        kept |= {"STRATUS_CONFIG": str(config), "STRATUS_CACHE": str(self.directory / "cache")}
        line = [sys.executable, "-m", "stratus", *map(str, words)]
        return subprocess.run(line, env=kept, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def serving_bucket(server: LocalS3, directory: Path, settings: Settings = Settings()) -> Iterator[Bucket]:
    """With an empty repository."""
    name = f"grants-{token_hex(6)}"
    server.create_bucket(name)
    store = server.store(name)
    new_repository(store, settings)
    keys().save(directory / "keys")
    place = Place(f"s3://{name}?endpoint={server.endpoint}", directory / "keys")
    with mock.patch.dict(os.environ, server.environment()):
        service = Service({FQRN: place}, everything_in(store), default_budgets(1), tend_every=1000)
        started = threading.Event()
        with Server(service.app, behind=service) as running:
            thread = threading.Thread(target=running.run, args=(started.set,))
            thread.start()
            try:
                assert started.wait(60)
                yield Bucket(directory, running.url, store)
            finally:
                running.stop()
                thread.join()
