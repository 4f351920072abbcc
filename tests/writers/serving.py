"""A server with API and functions, in a thread, with a directory store; and writers who have keys for it."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stratus.endpoints.server import Server
from stratus.endpoints.static import everything_in
from stratus.formats.manifest import Manifest
from stratus.formats.records import Lock, parse
from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.runtimes.local.budgets import default_budgets
from stratus.runtimes.local.service import Service
from stratus.runtimes.local.worker import Place
from stratus.stores import flows
from stratus.stores.directory import DirectoryStore
from stratus.stores.http import HttpStore
from stratus.trust.credentials import KeyCredential
from stratus.trust.writer_keys import WriterKey
from stratus.writers.api import ApiWriter
from stratus.writers.api_client import ApiClient
from tests.repositories import FQRN, keys, new_repository, reader

LAYOUT = Layout(FQRN)


@dataclass(frozen=True, slots=True)
class Office:
    """A repository behind an API, and what its owner does for writers."""

    url: str
    store: DirectoryStore

    def renew(self) -> None:
        """Puts a new, empty repository into its place."""
        while self.store.path.exists():  # what tends it writes there now and then
            shutil.rmtree(self.store.path, ignore_errors=True)
        new_repository(DirectoryStore(self.store.path))

    def settle(self) -> None:
        """Waits until nobody commits: a receipt is there a moment before."""
        end = time.monotonic() + 20
        while parse(self.store.get(LAYOUT.lock).data, Lock).held or any(self.store.list(LAYOUT.queue())):
            assert time.monotonic() < end
            time.sleep(0.02)

    def key(self, name: str = "alice", *grants: bytes) -> WriterKey:
        """A new key that is good for these paths, by default for all."""
        key = WriterKey.generate()
        flows.run(writer_keys.create(LAYOUT, key.public_key, name, grants or (b"",)), self.store)
        return key

    def revoke(self, key: WriterKey) -> None:
        flows.run(writer_keys.revoke(LAYOUT, key.id), self.store)

    def client(self, key: WriterKey) -> ApiClient:
        return ApiClient(self.url, FQRN, KeyCredential(key))

    def writer(self, key: WriterKey | None = None, cache: Path | None = None) -> ApiWriter:
        """Someone with that key, by default a new one for everything."""
        public = HttpStore(f"{self.url}/cvmfs")
        return ApiWriter(public, self.client(key or self.key()), self._verify, cache)

    def _verify(self, data: bytes) -> Manifest:
        reader(self.store).trust(data)
        return Manifest.parse(data)


@contextlib.contextmanager
def serving(directory: Path, port: int = 0) -> Iterator[Office]:
    """Of a store and keys in this directory."""
    store = DirectoryStore(directory / "store")
    place = Place(str(store.path), directory / "keys")
    if not (directory / "keys").exists():
        keys().save(directory / "keys")
        new_repository(store)
    service = Service({FQRN: place}, everything_in(store), default_budgets(1), tend_every=1000)
    started = threading.Event()
    with Server(service.app, port=port, behind=service) as server:
        thread = threading.Thread(target=server.run, args=(started.set,))
        thread.start()
        try:
            assert started.wait(60)
            yield Office(server.url, store)
        finally:
            server.stop()
            thread.join()
