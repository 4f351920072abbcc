"""The clock of a server that says the time with each answer."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec


@lru_cache(maxsize=256)  # a second has one text, and many answers
def parse_date(text: str) -> datetime:
    """A date of HTTP. Raises ValueError."""
    return parsedate_to_datetime(text).astimezone(UTC)


class Clock(msgspec.Struct):
    """The store's clock: the Date of the last answer and the monotonic time since; before the first, the host's."""

    known: bool = False
    _last: tuple[datetime, float] = msgspec.field(default_factory=lambda: (datetime.now(UTC), time.monotonic()))

    def learn(self, date: str) -> None:
        try:
            self._last = (parse_date(date), time.monotonic())
        except ValueError:
            return
        self.known = True

    def now(self) -> datetime:
        date, then = self._last
        return date + timedelta(seconds=time.monotonic() - then)

    def agrees_with_host(self, tolerance: timedelta) -> bool:
        """Whether the host's clock says about the same; true as long as the store's is not known."""
        return not self.known or abs(self.now() - datetime.now(UTC)) <= tolerance
