"""When and how often a request that does no harm twice is sent again."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from stratus.errors import StoreError

T = TypeVar("T")

ATTEMPTS = 6
_PATIENT_ATTEMPTS = 10  # where a server says that too much is asked of it: the others' requests end, too
_FIRST_PAUSE = 0.1  # seconds; doubled each time, 3 s in all, or 21 for the patient
_LONGEST_PAUSE = 5.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_BUSY = frozenset({429, 503})

_SYSTEM = re.compile(r"\[Errno -?\d+\] ([^')]+)")


class Lost(StoreError):
    """No answer came, or one with a ``status`` that passes. ``sent``: the request may have arrived all the same."""

    sent = True
    status = 0


def passes(status: int) -> bool:
    """Whether an answer with this status may be another one in a moment."""
    return status in _PASSING


def reason(error: Exception) -> str:
    """Why there is no answer, as the operating system says it, without the objects that the HTTP library names."""
    found = _SYSTEM.search(str(error))
    return found[1] if found else str(error).rpartition("): ")[2]


def attempts(status: int) -> int:
    """How often a request is made in all that is answered so; 0: not at all."""
    return _PATIENT_ATTEMPTS if status in _BUSY else ATTEMPTS


def delay(attempt: int) -> float:
    """Seconds before the attempt after this one (0, 1, …), at most; at least half of it."""
    return min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE)


def pause(attempt: int) -> None:
    """Waits that long, with jitter."""
    time.sleep(delay(attempt) * random.uniform(0.5, 1))


def again(action: Callable[[], T]) -> T:
    """Repeats what does no harm twice while its answer is lost; raises Lost in the end."""
    for attempt in itertools.count():
        try:
            return action()
        except Lost as error:
            if attempt + 1 >= attempts(error.status):
                raise
        pause(attempt)
    raise AssertionError("unreachable")
