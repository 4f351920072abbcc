"""Following a repository: from what there is to be heard of a new revision to the file system that shows it.

News come sooner than the repository would be looked at, and are not trusted: a manifest that comes with them is
verified like one that was fetched. Without news a mount follows by looking, only later.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from stratus.catalogs.tree import CatalogTree, Load
from stratus.client.content import ContentReader
from stratus.client.filesystem import ReadOnlyFileSystem
from stratus.client.fuse.notices import Notices
from stratus.client.xattrs import Facts
from stratus.errors import StratusError
from stratus.formats.catalog import Nested
from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId

_FIRST_RETRY = 5  # seconds after a failed look for a new revision; doubled with each further failure
_LAST_RETRY = 180

log = logging.getLogger(__name__)


class Snapshot(Protocol):
    """A revision as its manifest names it: root catalog (its size in bytes, 0 if unknown), time to live in seconds."""

    @property
    def revision(self) -> int: ...
    @property
    def root(self) -> Digest: ...
    @property
    def root_size(self) -> int: ...
    @property
    def ttl(self) -> int: ...
    @property
    def tag(self) -> str: ...


class MountSource(Protocol):
    """A repository to be read; thread-safe."""

    @property
    def fqrn(self) -> str: ...
    @property
    def host(self) -> str:
        """The store's URL."""
        ...

    def latest(self) -> Snapshot:
        """The newest revision that is trusted, or always the one that was asked for. Raises StratusError."""
        ...

    def trust(self, manifest: bytes) -> Snapshot:
        """The revision of a manifest that came by another way, verified like one that was fetched.

        Raises Untrusted, RolledBack among them; StratusError.
        """
        ...

    def fetch(self, object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
        """The plain bytes of an object, verified. Raises StratusError."""
        ...


class Audience(Protocol):
    """Whom the news are for; thread-safe."""

    @property
    def revision(self) -> int:
        """What is known already."""
        ...

    def look(self) -> None:
        """There may be a new revision."""
        ...

    def hear(self, manifest: bytes) -> None:
        """There is a new revision, says somebody. Raises Untrusted if that is not true, or StratusError."""
        ...

    def stopped(self, seconds: float) -> bool:
        """Waits so long, unless nothing is to be told any more; says whether that is so."""
        ...


class News(Protocol):
    """Where they come from."""

    def run(self, audience: Audience) -> None:
        """In a thread of its own, until the audience has stopped."""
        ...


class Follower:
    """Looks for new revisions, listens to news of them, and shows them."""

    def __init__(self, source: MountSource, load: Load, poll: float | None, news: Sequence[News] = ()) -> None:
        self._source = source
        self._load = load
        self._poll = poll
        self._news = news
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._heard: Snapshot | None = None
        self.snapshot = source.latest()
        self._due = time.monotonic() + self._pause()

    def file_system(self, reader: ContentReader) -> ReadOnlyFileSystem:
        """Shows the revision that is the newest now."""
        return ReadOnlyFileSystem(
            self._tree(self.snapshot),
            self._facts(self.snapshot),
            reader,
            live={"expires": lambda: str(int(max(self._due - time.monotonic(), 0)) // 60)},
        )

    def run(self, filesystem: ReadOnlyFileSystem, device: int) -> None:
        """In a thread of its own, until ``stop``; closes the device then."""
        for news in self._news:
            threading.Thread(target=news.run, args=(self,), daemon=True).start()
        failures = 0
        while True:
            self._wake.wait(max(self._due - time.monotonic(), 0))
            self._wake.clear()
            if self._stop.is_set():
                break
            try:
                self._look(filesystem, Notices(device))
                failures = 0
            except Exception as error:
                failures += 1
                known = isinstance(error, StratusError)
                log.warning("still at revision %s: %s", self.snapshot.revision, error, exc_info=not known)
            pause = self._pause()
            if failures:
                pause = min(_FIRST_RETRY * 2.0 ** (failures - 1), max(pause, _LAST_RETRY))
            self._due = time.monotonic() + pause
        os.close(device)

    def stop(self) -> None:
        """Ends ``run`` after what it is at."""
        self._stop.set()
        self._wake.set()

    # -- for the news ------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """What is shown."""
        return self.snapshot.revision

    def look(self) -> None:
        self._wake.set()

    def hear(self, manifest: bytes) -> None:
        snapshot = self._source.trust(manifest)
        if snapshot.revision > self.snapshot.revision:
            self._heard = snapshot
            self._wake.set()

    def stopped(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    # -- showing -----------------------------------------------------------------------------------------------------

    def _look(self, filesystem: ReadOnlyFileSystem, kernel: Notices) -> None:
        # What was heard is tried once: where it cannot be loaded yet, the store tells when it can.
        heard, self._heard = self._heard, None
        latest = heard or self._source.latest()
        if latest.revision > self.snapshot.revision:
            filesystem.follow(self._tree(latest), self._facts(latest), kernel)
            self.snapshot = latest
            log.info("revision %s", latest.revision)

    def _tree(self, snapshot: Snapshot) -> CatalogTree:
        return CatalogTree(Nested(b"", snapshot.root, snapshot.root_size), self._load)

    def _facts(self, snapshot: Snapshot) -> Facts:
        return Facts(self._source.fqrn, snapshot.revision, snapshot.root, self._source.host, snapshot.tag)

    def _pause(self) -> float:
        return max(self.snapshot.ttl, 1) if self._poll is None else self._poll
