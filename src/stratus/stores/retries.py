"""When and how often a request that does no harm twice is sent again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from stratus.errors import StoreError

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_PAUSE = 0.1  # seconds; doubled each time, 3 s in all
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


_SYSTEM = re.compile(r"\[Errno -?\d+\] ([^')]+)")


class Lost(StoreError):
    """No answer came. ``sent``: the request may have arrived all the same."""

    sent = True


def passes(status: int) -> bool:
    """Whether an answer with this status may be another one in a moment."""
    return status in _PASSING


def reason(error: Exception) -> str:
    """Why there is no answer, as the operating system says it, without the objects that the HTTP library names."""
    found = _SYSTEM.search(str(error))
    return found[1] if found else str(error).rpartition("): ")[2]


def pause(attempt: int) -> None:
    """Waits before the attempt after this one (0, 1, …), with jitter."""
    time.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))


def again(action: Callable[[], T]) -> T:
    """Repeats what does no harm twice while its answer is lost; raises Lost in the end."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return action()
        except Lost:
            pause(attempt)
    return action()
