"""Requests that are signed now and sent later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from stratus.errors import UsageError

T = TypeVar("T")


class Deferred(Generic[T]):
    """A ``Prepared`` made of what sending does; ``release`` is called once, after sending or when it is dropped."""

    __slots__ = ("_action", "_release")

    def __init__(self, action: Callable[[], T], release: Callable[[], None] = lambda: None) -> None:
        self._action: Callable[[], T] | None = action
        self._release = release

    def send(self) -> T:
        """Sends it; raises what the request raises, UsageError if it was sent or closed before."""
        action, self._action = self._action, None
        if action is None:
            raise UsageError("this request was sent or dropped already", hint="prepare another one")
        try:
            return action()
        finally:
            self._let_go()

    def close(self) -> None:
        """Drops it; nothing happens if it was sent."""
        if self._action is not None:
            self._action = None
            self._let_go()

    def __del__(self) -> None:
        self.close()

    def _let_go(self) -> None:
        release, self._release = self._release, lambda: None
        release()
