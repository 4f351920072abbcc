"""Who knows the newest revision of a repository, for any number of listeners: one watcher for all of them.

It reads the manifest when it is told to, and now and then anyway, but only while somebody listens. It verifies nothing,
clients do; it never goes back in revision. Listeners keep no queue: whoever is slow misses revisions, never the newest.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from stratus.errors import Busy, NoSuchRepository, NotFound, StratusError, Untrusted
from stratus.formats.notification import Notification
from stratus.formats.paths import check_fqrn
from stratus.repository.layout import Layout
from stratus.stores.contract import Store

POLL = 5.0  # seconds between looks that nobody asked for
LISTENERS = 1000
_HINT_PAUSE = 1.0  # seconds at least between looks that a stranger asks for
_LAST_POLL = 60.0  # seconds between looks at a store that fails

log = logging.getLogger(__name__)


class Ending(Busy):
    """No place among the listeners, as the server ends."""


class News(msgspec.Struct, frozen=True):
    """The newest revision, and its notification as it is sent."""

    revision: int
    message: bytes


class Watcher:
    """Of one repository; to be used in the event loop only."""

    def __init__(self, fqrn: str, store: Store, poll: float) -> None:
        self._fqrn = fqrn
        self._store = store
        self._poll = poll
        self._newest: News | None = None
        self._changed = asyncio.Event()  # replaced by each revision
        self._woken = asyncio.Event()
        self._due = -math.inf
        self._looked = -math.inf
        self._listeners = 0
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[News]:
        """Gives the newest revision, and looks for newer ones as long as it is open.

        Raises NoSuchRepository, or StratusError if the first look fails.
        """
        self._listeners += 1
        try:
            async with self._starting:
                newest = self._newest
                if newest is None or self._task is None:
                    newest = await self._look()
                    self._task = asyncio.create_task(self._watch())
            yield newest
        finally:
            self._listeners -= 1
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    async def newer(self, revision: int) -> News:
        """Waits for a revision after this one."""
        while self._newest is None or self._newest.revision <= revision:
            await self._changed.wait()
        return self._newest

    def announce(self) -> None:
        """There is a new revision: look at once."""
        self._due = -math.inf
        self._woken.set()

    def hint(self) -> None:
        """A stranger says that there is a new revision: look soon, but not for each of many."""
        self._due = min(self._due, self._looked + _HINT_PAUSE)
        self._woken.set()

    async def _watch(self) -> None:
        failures = 0
        while True:
            self._woken.clear()
            pause = self._due - asyncio.get_running_loop().time()
            if pause > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), pause)
                continue
            try:
                await self._look()
                failures = 0
            except Exception as error:
                failures += 1
                self._due += max(min(self._poll * 2.0**failures, _LAST_POLL) - self._poll, 0)
                known = isinstance(error, StratusError)
                log.warning("%s: the newest revision is not known: %s", self._fqrn, error, exc_info=not known)

    async def _look(self) -> News:
        self._looked = asyncio.get_running_loop().time()
        self._due = self._looked + self._poll  # before it is read: who announces meanwhile wants another look
        found = await asyncio.to_thread(self._read)
        newest = self._newest
        if newest is None or found.revision > newest.revision:
            newest = self._newest = News(found.revision, found.pack())
            self._changed.set()
            self._changed = asyncio.Event()
        return newest

    def _read(self) -> Notification:
        try:
            data = self._store.get(Layout(self._fqrn).manifest).data
        except NotFound as error:
            raise _unknown(self._fqrn) from error
        found = Notification.of(data)
        if found.repository != self._fqrn:
            raise Untrusted(f"the manifest of {self._fqrn} is that of {found.repository}")
        return found


class Watchers:
    """Of all repositories of a process. ``announce`` may be called by any thread, all else in one event loop.

    Args:
        stores: the store of a repository. Raises StratusError.
        poll: seconds between looks, beside those that are announced.
        listeners: how many there may be at a time, of all repositories; ``count`` is how many there are.
    """

    def __init__(self, stores: Callable[[str], Store], poll: float = POLL, listeners: int = LISTENERS) -> None:
        self._stores = stores
        self._poll = poll
        self._limit = listeners
        self.count = 0
        self._watchers: dict[str, Watcher] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = asyncio.Event()
        self._lock = threading.Lock()

    def announce(self, fqrn: str) -> None:
        """A repository has a new revision."""
        self._tell(fqrn, Watcher.announce)

    def hint(self, fqrn: str) -> None:
        """A repository may have a new revision, says a stranger."""
        self._tell(fqrn, Watcher.hint)

    def close(self) -> None:
        """Ends all streams and waits, so that the server can end."""
        if not self._in_loop(self._closed.set):
            self._closed.set()

    @asynccontextmanager
    async def listening(self, fqrn: str) -> AsyncIterator[tuple[Watcher, News]]:
        """A place among the listeners. Raises Busy or Ending if there is none, NoSuchRepository, StratusError."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        if self._closed.is_set():
            raise Ending("the server ends", hint="ask the next one in a moment")
        if self.count >= self._limit:
            raise Busy(f"{self.count} listeners are as many as there may be", hint="try again in a moment")
        self.count += 1
        try:
            known = self._watchers.get(fqrn)
            watcher = Watcher(fqrn, await asyncio.to_thread(self._find, fqrn), self._poll) if known is None else known
            watcher = self._watchers.setdefault(fqrn, watcher)
            try:
                async with watcher.listening() as newest:
                    yield watcher, newest
            except NoSuchRepository:
                self._watchers.pop(fqrn, None)
                raise
        finally:
            self.count -= 1

    async def closed(self) -> None:
        """Waits for ``close``."""
        await self._closed.wait()

    def _find(self, fqrn: str) -> Store:
        try:
            check_fqrn(fqrn)
        except StratusError as error:
            raise _unknown(fqrn) from error
        return self._stores(fqrn)

    def _tell(self, fqrn: str, what: Callable[[Watcher], None]) -> None:
        def tell() -> None:
            watcher = self._watchers.get(fqrn)
            if watcher is not None:
                what(watcher)

        self._in_loop(tell)

    def _in_loop(self, action: Callable[[], object]) -> bool:
        """Does it in the loop of the listeners; False if there never was one, or it has ended."""
        with self._lock:
            loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(action)
        except RuntimeError:
            return False
        return True


def _unknown(fqrn: str) -> NoSuchRepository:
    return NoSuchRepository(f"there is no repository {fqrn[:80]} here", hint="`stratus list` names those that are here")
