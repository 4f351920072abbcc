"""Telling observers what a store does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from stratus.stores.contract import Exchange, Observer, Verb, ignore
from stratus.stores.dying import DEATH

T = TypeVar("T")

PAGE = 1000  # keys in a page of a listing and in a bulk delete, as in S3


def both(first: Observer, second: Observer) -> Observer:
    """One observer that tells two."""
    if first is ignore:
        return second

    def tell(exchange: Exchange) -> None:
        first(exchange)
        second(exchange)

    return tell


class Watch:
    """Times a request and tells the observer of it."""

    __slots__ = ("_key", "_number", "_observer", "_start", "_verb")

    def __init__(self, observer: Observer, verb: Verb, key: str) -> None:
        self._observer, self._verb, self._key, self._start = observer, verb, key, time.monotonic()
        self._number = 0 if DEATH is None else DEATH.begin()

    def tell(self, status: int, sent: int = 0, received: int = 0) -> None:
        """Status of the answer (0: none came), bytes of the bodies."""
        if DEATH is not None:
            DEATH.end(self._number)
        self._observer(Exchange(self._verb, self._key, status, sent, received, time.monotonic() - self._start))


def pages(things: Iterable[T], size: int = PAGE) -> Iterator[list[T]]:
    """At least one page, as a listing of nothing is a request too."""
    iterator = iter(things)
    page = list(islice(iterator, size))
    yield page
    while len(page) == size:
        page = list(islice(iterator, size))
        if page:
            yield page
