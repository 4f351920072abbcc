"""The bucket as caches see it: what arrives is counted, and answers can be slow, damaged, or of another age."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import urllib3

from tests.stores.serving import serving

_ASKED = ("Range", "If-Range", "If-None-Match", "If-Modified-Since")
_ANSWERED = (
    "Accept-Ranges",
    "Cache-Control",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Last-Modified",
    "Vary",
)


class Origin:
    """A server in front of a public bucket.

    Attributes:
        url: what stands for the bucket's.
        asked: how often each key was.
        pointer_age: what stands for the 61 seconds of pointers.
        delay: seconds before each answer.
        damaged: keys whose answers are damaged, and how often they still are.
    """

    def __init__(self, bucket: str) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.pointer_age = 61
        self.delay = 0.0
        self.damaged: Counter[str] = Counter()
        self._bucket = bucket
        self._lock = threading.Lock()
        self._pool = urllib3.PoolManager(maxsize=32, retries=False, timeout=10)

    def reset(self) -> None:
        """Nothing was asked, and answers are what the bucket's are."""
        self.asked.clear()
        self.damaged.clear()
        self.pointer_age, self.delay = 61, 0.0

    def answer(self, method: str, key: str, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self.asked[key] += 1
            damaged = self.damaged[key] > 0
            self.damaged[key] -= damaged
        time.sleep(self.delay)
        reply = self._pool.request(method, f"{self._bucket}/{key}", headers=asked, decode_content=False)
        headers = {name: reply.headers[name] for name in _ANSWERED if name in reply.headers}
        if headers.get("Cache-Control") == "max-age=61":
            headers["Cache-Control"] = f"max-age={self.pointer_age}"
        return reply.status, headers, bytes(reversed(reply.data)) if damaged else reply.data

    def handler(self) -> type[BaseHTTPRequestHandler]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                key = self.path.removeprefix("/bucket/")
                asked = {name: self.headers[name] for name in _ASKED if name in self.headers}
                status, headers, body = origin.answer(self.command, key, asked)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def origin_of(bucket: str) -> Iterator[Origin]:
    """Stands for the bucket with this URL."""
    origin = Origin(bucket)
    with serving(origin.handler()) as url:
        origin.url = f"{url}/bucket"
        yield origin
    origin._pool.clear()
