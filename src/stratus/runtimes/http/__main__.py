"""The entry point of the container."""

from __future__ import annotations

import logging
import os
import sys

from stratus.endpoints.server import Server
from stratus.errors import StratusError
from stratus.runtimes.http.app import Instance
from stratus.runtimes.settings import from_environment


def main() -> int:
    """Serves until SIGTERM."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        settings = from_environment(os.environ)
        instance = Instance(settings)
        with Server(instance.app, settings.host, settings.port, instance) as server:
            server.run(lambda: print(f"serving at {server.url}", flush=True))
    except StratusError as error:
        print(f"stratus: {error.message}", f"hint: {error.hint}", sep="\n", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
