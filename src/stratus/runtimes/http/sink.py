"""Where follow-ups go as CloudEvents: a broker, or whatever stands for one."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import urllib3

from stratus._version import __version__
from stratus.functions.contract import Event
from stratus.runtimes.http import cloud_events

_ATTEMPTS = 3
_FIRST_PAUSE = 0.2  # seconds; doubled each time
_TIMEOUT = 3.0  # seconds; the reply to a writer waits for it

log = logging.getLogger(__name__)


class Sink:
    """Posts events; thread-safe."""

    def __init__(self, url: str, token: str = "", source: str = "") -> None:
        """``token`` is sent along, for a sink that is another instance; ``source`` says who we are."""
        self._url = url
        self._headers = {"User-Agent": f"stratus/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._source = source or "/stratus"
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    async def forward(self, event: Event) -> bool:
        """Whether the sink took it. Whoever asks runs it otherwise, and ``tend`` finds what is left."""
        return await asyncio.to_thread(self._post, event)

    def close(self) -> None:
        self._pool.clear()

    def _post(self, event: Event) -> bool:
        message = cloud_events.write(event, self._source)
        failure = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1))
            try:
                reply = self._pool.request(
                    "POST", self._url, body=message.body, headers={**self._headers, **message.headers}, redirect=False
                )
            except urllib3.exceptions.HTTPError as error:
                failure = type(error).__name__
                continue
            if reply.status < 300:
                return True
            failure = f"it answered {reply.status}"
            if reply.status < 500 and reply.status != 429:
                break
        log.warning("%s of %s was not taken by the sink: %s", event.kind, event.repository, failure)
        return False
