"""``stratus serve``: repositories over HTTP, as stock and our own clients read them; with functions, writable ones."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stratus.cli.parsing import Verbs, add_verb, count, positive

if TYPE_CHECKING:
    from stratus.runtimes.local.worker import Place
    from stratus.stores.contract import Store

PORT = 8000
TEND_EVERY = 60.0  # seconds


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "serve",
        "serve repositories over HTTP at /cvmfs/NAME",
        "stratus serve --port 8000",
        "Without a store: all that are configured. Private state is never served. Ends with Ctrl-C.",
    )
    parser.add_argument("store", metavar="STORE", nargs="?", help="all repositories of this store")
    parser.add_argument("--port", metavar="N", type=count, default=PORT, help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="to listen at (default: 127.0.0.1)")
    parser.add_argument(
        "--functions",
        action="store_true",
        help="also the API for writers, at /api/v1, and the functions behind it, for repositories whose keys are here",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=count,
        default=0,
        help="with --functions: requests to the API that are worked on at once (default: 2 for each core)",
    )
    parser.add_argument(
        "--tend-every",
        metavar="SECONDS",
        type=positive,
        default=TEND_EVERY,
        help=f"with --functions: how often what is left over is looked after (default: {TEND_EVERY:g})",
    )
    parser.add_argument(
        "--several",
        action="store_true",
        help="with --functions: other servers work on these repositories, too",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.endpoints.server import Server
    from stratus.endpoints.static import ROOT, everything_in, just_these, static_app
    from stratus.stores.opening import open_store

    if arguments.store is not None:
        store = open_store(arguments.store)
        route = everything_in(store)
        urls: Mapping[str, str] = dict.fromkeys(_listed_in(store), arguments.store) if arguments.functions else {}
    else:
        urls = _configured()
        route = just_these({fqrn: open_store(url) for fqrn, url in urls.items()})
        for fqrn in urls:
            print(f"{ROOT}/{fqrn}")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if arguments.functions:
        from stratus.endpoints.openapi import BASE
        from stratus.formats.records import new_nonce
        from stratus.runtimes.local.budgets import default_budgets
        from stratus.runtimes.local.service import Service

        places = _places(urls)
        for fqrn in places:
            print(BASE.format(fqrn=fqrn))
        instance = new_nonce() if arguments.several else ""
        service = Service(places, route, default_budgets(arguments.workers), arguments.tend_every, instance=instance)
        server = Server(service.app, arguments.host, arguments.port, service)
    else:
        server = Server(static_app(route), arguments.host, arguments.port)
    with server:
        server.run(lambda: print(f"serving at {server.url}{ROOT}", flush=True))
    return 0


def _configured() -> Mapping[str, str]:
    """The stores of all repositories that are configured, by name. Raises UsageError if there are none."""
    from stratus import config
    from stratus.errors import UsageError

    urls = {fqrn: known.store for fqrn, known in sorted(config.repositories().items()) if known.store is not None}
    if not urls:
        raise UsageError(
            f"no repository is configured in {config.config_file()}",
            hint="name a store, or create a repository with `stratus create`",
        )
    return urls


def _listed_in(store: Store) -> list[str]:
    """The names of the repositories of a store. Raises StoreError."""
    import json

    from stratus.errors import NotFound
    from stratus.repository.layout import INFO

    try:
        return [item["name"] for item in json.loads(store.get(INFO).data)["repositories"]]
    except (NotFound, ValueError, KeyError, TypeError):
        return []


def _places(urls: Mapping[str, str]) -> dict[str, Place]:
    """Those whose keys are here. Raises UsageError if there are none."""
    from pathlib import Path

    from stratus import config
    from stratus.errors import UsageError
    from stratus.runtimes.local.worker import Place

    known = config.repositories()
    places = {}
    for fqrn, url in urls.items():
        configured = known[fqrn].keys if fqrn in known else None
        keys = Path(configured).expanduser() if configured else config.keys_directory()
        if (keys / f"{fqrn}.key").exists():
            places[fqrn] = Place(url, keys.absolute())
    if not places:
        raise UsageError(
            "functions sign what they publish, but there are no keys of any of these repositories",
            hint=f"name their directory in {config.config_file()}, or serve without --functions",
        )
    return places
