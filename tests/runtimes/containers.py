"""Containers with the functions, as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import urllib3
from cloudevents.core.bindings.http import HTTPMessage

from stratus.formats.records import Lock, parse
from stratus.stores.contract import Store
from tests.repositories import FQRN, keys
from tests.runtimes.publishing import LAYOUT, over_http

TOKEN = "the-token-of-the-events"
NAME = "http://publish.example.org"


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs."""

    url: str
    process: subprocess.Popen[str]

    @property
    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        return urllib3.request("GET", self.url + path, timeout=20, retries=False)

    def post(self, message: HTTPMessage, token: str = TOKEN) -> int:
        headers = {**message.headers, "Authorization": f"Bearer {token}"}
        return self.send(message.body, headers)

    def send(self, body: bytes, headers: dict[str, str]) -> int:
        return urllib3.request("POST", self.url, body=body, headers=headers, timeout=60, retries=False).status

    def ask(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        """Requests of writers, who know it by another name than what it is reached by here."""
        return over_http(method, url.replace(NAME, self.url), headers, body)


@dataclass(frozen=True, slots=True)
class World:
    """A bucket with a repository, and the environment of containers for it."""

    store: Store
    environment: Mapping[str, str]

    @classmethod
    def at(cls, store: Store, url: str, credentials: Mapping[str, str], secrets: Path) -> Self:
        """Of a repository in that store."""
        keys().save(secrets)
        settings = {
            "STRATUS_STORE": url,
            "STRATUS_REPOSITORIES": FQRN,
            "STRATUS_SECRETS": f"file://{secrets}",
            "STRATUS_HOST": "127.0.0.1",
            "STRATUS_URL": NAME,
            "STRATUS_EVENTS_TOKEN": TOKEN,
            "STRATUS_WORKERS": "2",
            "STRATUS_TEND_EVERY": "0",
            "PORT": "0",
        }
        return cls(store, {**credentials, **settings})

    @contextlib.contextmanager
    def container(self, **environment: str) -> Iterator[Container]:
        line = [sys.executable, "-m", "stratus.runtimes.http"]
        settings = {**os.environ, **self.environment, **environment}
        with subprocess.Popen(line, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = re.fullmatch(r"serving at (http://\S+)\n", process.stdout.readline())
            assert said is not None, process.stderr.read()
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            try:
                yield Container(said[1], process)
            finally:
                process.kill()
                process.wait()
                drain.join()

    def settle(self) -> None:
        """Waits until nobody commits, and nothing waits."""
        end = time.monotonic() + 60
        while parse(self.store.get(LAYOUT.lock).data, Lock).held or any(self.store.list(LAYOUT.queue())):
            assert time.monotonic() < end
            time.sleep(0.05)
