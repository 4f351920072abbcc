"""API, functions, schedule and static repositories behind one port."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.routing import Mount

from stratus.endpoints.api import api_app
from stratus.endpoints.authentication import find_key_in
from stratus.endpoints.events import event_routes
from stratus.endpoints.static import ROOT, Route, static_app
from stratus.endpoints.watching import Watchers
from stratus.errors import NoSuchRepository
from stratus.runtimes.local.budgets import Budget
from stratus.runtimes.local.runtime import TEND_EVERY, LocalRuntime
from stratus.runtimes.local.worker import Place
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
    ) -> None:
        """``places`` of the repositories that can be written to, ``static`` are those that can be read."""
        stores = {fqrn: open_store(place.store) for fqrn, place in places.items()}

        def store_of(fqrn: str) -> Store:
            if fqrn not in stores:
                raise NoSuchRepository(f"there is no repository {fqrn[:80]} here", hint="check the name and the URL")
            return stores[fqrn]

        self._watchers = Watchers(store_of)
        self._runtime = LocalRuntime(places, budgets, tend_every=tend_every, announce=self._watchers.announce)
        others = [*event_routes(self._watchers), Mount(ROOT, static_app(static))]
        self.app: Starlette = api_app(self._runtime.invoke, find_key_in(store_of), others)

    async def start(self) -> None:
        """Starts the functions and the schedule."""
        await self._runtime.start()

    async def stop(self) -> None:
        """Ends listeners and functions in order; when cancelled, at once."""
        self._watchers.close()
        await self._runtime.stop()
