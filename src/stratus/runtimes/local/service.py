"""API, functions, schedule and static repositories behind one port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

from stratus.endpoints.api import api_app
from stratus.endpoints.authentication import Authenticator
from stratus.endpoints.events import event_routes
from stratus.endpoints.replays import MemoryReplays, StoreReplays
from stratus.endpoints.static import ROOT, Route, static_app
from stratus.endpoints.uploads import upload_routes
from stratus.endpoints.watching import Watchers
from stratus.errors import NoSuchRepository
from stratus.functions.auditing import Auditor
from stratus.runtimes.local.budgets import Budget
from stratus.runtimes.local.runtime import TEND_EVERY, Forward, LocalRuntime
from stratus.runtimes.local.worker import Place, secrets_of
from stratus.stores.contract import Store
from stratus.stores.opening import open_store


class Service:
    """An application, ``app``, and what works behind it: see ``endpoints.server``."""

    def __init__(
        self,
        places: Mapping[str, Place],
        static: Route,
        budgets: Mapping[str, Budget] | None = None,
        tend_every: float = TEND_EVERY,
        more: Callable[[LocalRuntime], Sequence[BaseRoute]] = lambda _: (),
        forward: Forward | None = None,
        instance: str = "",
    ) -> None:
        """``places`` of the repositories that can be written to, ``static`` are those that can be read.

        ``more`` are routes of others; the rest is as for ``LocalRuntime``.
        """
        stores = {fqrn: open_store(place.store) for fqrn, place in places.items()}

        def store_of(fqrn: str) -> Store:
            if fqrn not in stores:
                raise NoSuchRepository(f"there is no repository {fqrn[:80]} here", hint="check the name and the URL")
            return stores[fqrn]

        self._watchers = Watchers(store_of)
        self._runtime = LocalRuntime(
            places, budgets, tend_every=tend_every, announce=self._watchers.announce, forward=forward, instance=instance
        )
        auditor = Auditor(store_of)
        own = [*event_routes(self._watchers), *upload_routes(store_of, auditor), Mount(ROOT, static_app(static))]
        others = [*more(self._runtime), *own]
        # Several instances tell each other what was seen by marks in the store; a single one knows it all.
        self._since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        replays = StoreReplays(store_of) if instance else MemoryReplays(self._since)
        authenticator = Authenticator(store_of, secrets_of(places), replays)
        self.app: Starlette = api_app(self._runtime.invoke, authenticator, auditor, others)

    async def start(self) -> None:
        """Starts the functions and the schedule."""
        await self._runtime.start()
        # Signatures tell whole seconds: what is signed from now on was signed after the start.
        await asyncio.sleep((self._since - datetime.now(UTC)).total_seconds())

    async def stop(self) -> None:
        """Ends listeners and functions in order; when cancelled, at once."""
        self._watchers.close()
        await self._runtime.stop()
