"""nginx and Squid on loopback, configured as ``docs/caching.md`` says."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3

from stratus.stores.http import HttpStore
from tests.proxies.origin import Origin

_MANUAL = Path(__file__).parents[2] / "docs" / "caching.md"
_START_TIMEOUT = 30.0  # seconds
_SERVICE_USER = "nobody"  # what a program that root starts runs as


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache that runs in front of an origin."""

    origin: Origin
    pool: urllib3.PoolManager
    base: str

    def store(self, prefix: str) -> HttpStore:
        """What a reader behind the cache sees below a prefix of the bucket."""
        store = HttpStore(f"{self.base}/{prefix}")
        store._pool = self.pool
        return store

    def get(self, key: str, headers: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """A plain request."""
        return self.pool.request("GET", f"{self.base}/{key}", headers=headers, decode_content=False)


Start = Callable[[Origin, Path], AbstractContextManager[Cache]]


@contextmanager
def nginx(origin: Origin, directory: Path) -> Iterator[Cache]:
    program = _find("nginx")
    port = _free_port()
    server = _documented(
        "nginx",
        {
            "/var/cache/nginx/stratus": f"{directory}/cache",
            "listen 80;": f"listen 127.0.0.1:{port};",
            "https://s3.example.org/bucket/": f"{origin.url}/",
        },
    )
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"{'user root;' if os.getuid() == 0 else ''}\ndaemon off;\nworker_processes 1;\n"
        f"pid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{server}}}\n"
    )
    with (
        _running([program, "-e", "stderr", "-c", str(configuration)], port, directory),
        urllib3.PoolManager(maxsize=32, retries=False, timeout=10) as pool,
    ):
        yield Cache(origin, pool, f"http://127.0.0.1:{port}")


@contextmanager
def squid(origin: Origin, directory: Path) -> Iterator[Cache]:
    program = _find("squid")
    port = _free_port()
    documented = _documented(
        "squid",
        {
            "http_port 3128": f"http_port 127.0.0.1:{port}",
            "10.0.0.0/8": "127.0.0.1",
            "dstdomain s3.example.org": f"dst {urlsplit(origin.url).hostname}",
            "4 GB": "32 MB",
            "/var/spool/squid 200000 16 256": f"{directory}/cache 100 1 1",
        },
    )
    configuration = directory / "squid.conf"
    configuration.write_text(
        f"{documented}cache_effective_user {_SERVICE_USER}\nvisible_hostname localhost\npid_filename none\n"
        f"pinger_enable off\nnetdb_filename none\ncoredump_dir {directory}\nshutdown_lifetime 0 seconds\n"
        f"access_log none\ncache_log {directory}/cache.log\n"
    )
    if os.getuid() == 0:
        shutil.chown(directory, _SERVICE_USER)
    command = [program, "-N", "-f", str(configuration)]
    subprocess.run([*command, "-z"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=True)
    with (
        _running(command, port, directory),
        urllib3.ProxyManager(f"http://127.0.0.1:{port}", maxsize=32, retries=False, timeout=10) as pool,
    ):
        yield Cache(origin, pool, origin.url)


def _documented(language: str, changes: Mapping[str, str]) -> str:
    """The one block of the manual in this language, with names and sizes replaced."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", _MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    text = str(found)
    for old, new in changes.items():
        assert old in text, f"{old} is not in the manual any more"
        text = text.replace(old, new)
    return text


def _find(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install --no-install-recommends {program}")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, directory: Path) -> Iterator[None]:
    log = directory / "said"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        give_up = time.monotonic() + _START_TIMEOUT
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that programs may enter that root starts and that then are somebody else."""
    with tempfile.TemporaryDirectory(prefix="stratus-cache-") as name:
        yield Path(name)
