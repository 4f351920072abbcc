"""Each signed request counts once.

A signature is good for some minutes. Where one process answers all requests, it remembers in memory which it has seen;
where several do, those that change something leave a mark in the store, which only one of them can put.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from stratus.errors import Exists, NotPermitted
from stratus.formats.key_record import short_id
from stratus.repository.layout import Layout
from stratus.stores.contract import ABSENT, Store
from stratus.trust.request_signatures import REMEMBERED, Signed

_MOST = 100_000  # nonces that are remembered


class SignAgain(NotPermitted):
    """The request may have come before; one that is signed now cannot have."""

    hint = "sign it again"


class Replays(Protocol):
    """What was seen; thread-safe."""

    def once(self, repository: str, signed: Signed, now: datetime, changes: bool) -> None:
        """Remembers a request, ``changes`` if it may change something. Raises NotPermitted if it came before."""


class MemoryReplays:
    """Of one process that answers everything.

    What was signed before ``since``, the start of the process, may have been answered by the one before it: it is
    refused if it may change something.
    """

    def __init__(self, since: datetime | None = None) -> None:
        self._since = since
        self._lock = threading.Lock()
        self._nonces: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def once(self, repository: str, signed: Signed, now: datetime, changes: bool) -> None:  # noqa: ARG002
        if changes and self._since is not None and signed.created < self._since:
            raise SignAgain("the request was signed before this server was started")
        name = signed.key_id, signed.nonce
        with self._lock:
            if name in self._nonces:
                raise _before()
            self._nonces[name] = now
            while self._nonces and next(iter(self._nonces.values())) < now - REMEMBERED:
                self._nonces.popitem(last=False)
            if len(self._nonces) > _MOST:  # rather than forget one that is still good
                del self._nonces[name]
                raise SignAgain("too many requests were sent in the last minutes", hint="try again in a minute")


class StoreReplays:
    """Of any number of processes: one PUT for each request that may change something. ``tend`` deletes the marks."""

    def __init__(self, stores: Callable[[str], Store]) -> None:
        self._stores = stores
        self._memory = MemoryReplays()

    def once(self, repository: str, signed: Signed, now: datetime, changes: bool) -> None:
        self._memory.once(repository, signed, now, changes)
        if changes:
            mark = Layout(repository).seen(f"{signed.key_id}/{short_id(signed.nonce.encode())}")
            try:
                self._stores(repository).put(mark, b"", ABSENT)
            except Exists:
                raise _before() from None


def _before() -> NotPermitted:
    return NotPermitted("this very request came before", hint="sign each request anew")
