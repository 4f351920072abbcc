"""``stratus serve``: repositories over HTTP, as stock and our own clients read them."""

from __future__ import annotations

import argparse
import logging

from stratus.cli.parsing import Verbs, add_verb, count

PORT = 8000


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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus import config
    from stratus.cli.places import open_configured_store
    from stratus.endpoints.static import StaticServer, everything_in, just_these
    from stratus.errors import UsageError
    from stratus.stores.opening import open_store

    if arguments.store is not None:
        route = everything_in(open_store(arguments.store))
    else:
        stores = {
            fqrn: open_configured_store(fqrn, repository.store)
            for fqrn, repository in sorted(config.repositories().items())
            if repository.store is not None
        }
        if not stores:
            raise UsageError(
                f"no repository is configured in {config.config_file()}",
                hint="name a store, or create a repository with `stratus create`",
            )
        route = just_these(stores)
        for fqrn in stores:
            print(f"/cvmfs/{fqrn}")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    with StaticServer(route, arguments.host, arguments.port) as server:
        print(f"serving at {server.url}", flush=True)
        server.serve_forever()
    return 0
