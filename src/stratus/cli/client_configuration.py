"""What clients, ours and the stock ones, need to know to read a repository."""

from __future__ import annotations

from pathlib import Path

from stratus.cli.serve import PORT
from stratus.stores.contract import Store
from stratus.stores.s3 import S3Store


def server_url(store: Store) -> str | None:
    """Where web clients find ``@fqrn@``; None for a store that needs a web server first."""
    if not isinstance(store, S3Store):
        return None
    return f"{store.place.address('').rstrip('/')}/@fqrn@"


def client_configuration(fqrn: str, store: Store, public_key: Path) -> str:
    """Ready to be copied."""
    url = server_url(store)
    first = "" if url else "Clients need a web server, for example `stratus serve` on this machine. Then:\n"
    url = url or f"http://127.0.0.1:{PORT}/cvmfs/@fqrn@"
    return (
        f"{first}"
        f"Our client:\n"
        f"  stratus mount {url.replace('@fqrn@', fqrn)} DIRECTORY --public-key {public_key}\n"
        f"The stock client, in /etc/cvmfs/config.d/{fqrn}.conf, with the public key copied to the client:\n"
        f"  CVMFS_SERVER_URL={url}\n"
        f"  CVMFS_PUBLIC_KEY={public_key}\n"
        f"  CVMFS_HTTP_PROXY=DIRECT"
    )
