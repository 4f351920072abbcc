"""News of new revisions from an API: a stream of events, or long polls where nothing streams."""

from __future__ import annotations

import http.client
import logging
import random
from collections.abc import Iterator
from urllib.parse import urlsplit

import urllib3

from stratus._version import __version__
from stratus.client.following import Audience
from stratus.errors import StoreError, StratusError, UsageError
from stratus.formats import event_stream
from stratus.formats.event_stream import EventReader
from stratus.formats.notification import SIZE_MAX, Notification
from stratus.stores.retries import reason

_CONNECT = 10.0  # seconds
_SILENCE = 40.0  # seconds without even a heartbeat, of which there is one every 15 s
_WAIT = 25  # seconds of a long poll
_FIRST_PAUSE = 0.2  # seconds before the endpoint is asked again; doubled with each further failure
_LAST_PAUSE = 30.0
_LONGEST_PAUSE = 300.0  # seconds that an endpoint may ask for

log = logging.getLogger(__name__)


class _Answered(StoreError):
    """The endpoint gave another answer than news."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class _NoStream(_Answered):
    """The endpoint, or what is on the way to it, does not stream."""


class ApiNews:
    """Of an API: its stream of events; where nothing streams, long polls. Begins again for ever, with pauses."""

    def __init__(self, url: str, fqrn: str) -> None:
        """``url`` is the server's. Raises UsageError if it is none."""
        if not _is_http(url):
            raise UsageError(f"{url} is no URL of an API", hint="write http(s)://host[:port]")
        self._url = f"{url.rstrip('/')}/api/v1/repositories/{fqrn}"
        self._streams = True
        self._failures = 0

    def run(self, audience: Audience) -> None:
        timeout = urllib3.Timeout(connect=_CONNECT, read=_SILENCE)
        agent = {"User-Agent": f"stratus/{__version__}"}
        with urllib3.PoolManager(retries=False, timeout=timeout, headers=agent) as pool:
            while not audience.stopped(self._attempt(pool, audience)):
                pass

    def _attempt(self, pool: urllib3.PoolManager, audience: Audience) -> float:
        """Listens as long as it goes well; gives the seconds to wait before the next attempt."""
        wait = 0.0
        try:
            for manifest in self._stream(pool, audience) if self._streams else self._long_poll(pool, audience):
                self._is_well()
                if manifest is not None:
                    audience.hear(manifest)
            return random.uniform(0, _FIRST_PAUSE) if self._streams else 0.0  # many may have lost the same server
        except _NoStream as error:
            log.info("%s; it is asked again and again instead", error)
            self._streams = False
            return error.wait
        except (StratusError, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            if not self._failures:
                why = error if isinstance(error, StratusError) else reason(error)
                log.warning("no news from %s: %s", self._url, why)
            wait = error.wait if isinstance(error, _Answered) else 0.0
        except Exception:
            log.exception("no news from %s", self._url)
        self._failures += 1
        self._streams = True
        pause = min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LAST_PAUSE) * random.uniform(0.5, 1)
        return max(pause, min(wait, _LONGEST_PAUSE) * random.uniform(1, 1.5))  # many may have been told the same

    def _is_well(self) -> None:
        if self._failures:
            log.info("news from %s again", self._url)
            self._failures = 0

    def _stream(self, pool: urllib3.PoolManager, audience: Audience) -> Iterator[bytes | None]:
        """Manifests as they come, None for each other sign of life, until the stream ends."""
        url = f"{self._url}/events"
        headers = {**pool.headers, "Accept": event_stream.MEDIA_TYPE, "Last-Event-ID": str(audience.revision)}
        response = pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
        try:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if response.status in (404, 405, 406, 501) or (response.status == 200 and kind != event_stream.MEDIA_TYPE):
                raise _NoStream(f"{url} does not stream ({response.status} {kind})")
            _check(response, url)
            reader = EventReader()
            alive = False
            while piece := self._piece(response, url, alive):
                alive = True
                yield None
                for event in reader.feed(piece):
                    yield Notification.parse(event.data).manifest
        finally:
            response.close()

    def _piece(self, response: urllib3.BaseHTTPResponse, url: str, alive: bool) -> bytes:
        try:
            return response.read1(1 << 16)
        except urllib3.exceptions.ReadTimeoutError as error:
            if alive:
                raise
            raise _NoStream(f"{url} is held back by something on the way") from error

    def _long_poll(self, pool: urllib3.PoolManager, audience: Audience) -> Iterator[bytes | None]:
        """The manifest that came while it was waited, or None."""
        url = f"{self._url}/notifications"
        fields = {"after": str(audience.revision), "wait": str(_WAIT)}
        response = pool.request("GET", url, fields=fields, redirect=False, preload_content=False)
        try:
            if response.status == 204:
                yield None
                return
            _check(response, url)
            yield Notification.parse(response.read(SIZE_MAX + 1)).manifest
        finally:
            response.close()


def _check(response: urllib3.BaseHTTPResponse, url: str) -> None:
    """Raises _Answered for anything but 200."""
    if response.status != 200:
        after = response.headers.get("Retry-After", "")
        raise _Answered(
            f"{url} was answered {response.status} {response.reason}", float(after) if after.isdigit() else 0.0
        )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
