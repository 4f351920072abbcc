"""Counting what is asked of a store."""

from __future__ import annotations

import threading
from collections import Counter

from stratus.formats.receipt import Requests
from stratus.stores.contract import Exchange


class Meter:
    """An observer of stores that counts requests by verb and bytes both ways; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._sent = 0
        self._received = 0

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self._requests[exchange.verb] += 1
            self._sent += exchange.sent
            self._received += exchange.received

    @property
    def requests(self) -> Requests:
        """How many requests so far."""
        with self._lock:
            return Requests(**self._requests)

    @property
    def sent(self) -> int:
        """Bytes of bodies sent so far."""
        return self._sent

    @property
    def received(self) -> int:
        """Bytes of bodies received so far."""
        return self._received
