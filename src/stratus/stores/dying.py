"""A point to die at, for tests: ``STRATUS_DIE_AT=7`` kills this process before it makes its eighth store request.

``7+`` kills it after that request was answered, before anybody hears of the answer. Requests are counted from 0 over
all threads, as observers count them: retries and pages too.
"""

from __future__ import annotations

import itertools
import os
import signal

VARIABLE = "STRATUS_DIE_AT"


class Death:
    """Comes at one request, before or after it."""

    def __init__(self, point: str) -> None:
        self._number = int(point.removesuffix("+"))
        self._after = point.endswith("+")
        self._requests = itertools.count()

    def begin(self) -> int:
        """A request is about to be made; gives its number."""
        number = next(self._requests)
        if number == self._number and not self._after:
            _die()
        return number

    def end(self, number: int) -> None:
        """The request was answered."""
        if number == self._number:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # until it arrives: nothing more is done


DEATH = Death(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
