"""The clock of a server that says the time with each answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


@dataclass(slots=True)
class Clock:
    """The store's clock: the Date of the last answer and the monotonic time since; before the first, the host's."""

    known: bool = False
    _last: tuple[datetime, float] = field(default_factory=lambda: (datetime.now(UTC), time.monotonic()))

    def learn(self, date: str) -> None:
        try:
            self._last = (parsedate_to_datetime(date).astimezone(UTC), time.monotonic())
        except ValueError:
            return
        self.known = True

    def now(self) -> datetime:
        date, then = self._last
        return date + timedelta(seconds=time.monotonic() - then)

    def agrees_with_host(self, tolerance: timedelta) -> bool:
        """Whether the host's clock says about the same; true as long as the store's is not known."""
        return not self.known or abs(self.now() - datetime.now(UTC)) <= tolerance
