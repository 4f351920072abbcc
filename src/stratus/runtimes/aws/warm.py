"""What an instance of a function keeps between invocations: stores with their connections, secrets, catalogs."""

from __future__ import annotations

import functools
import logging
import os
import time
from typing import Protocol

from stratus.costs.meter import Meter
from stratus.errors import NoSuchRepository
from stratus.formats.records import new_nonce
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.repository.recent import Recent
from stratus.runtimes.aws.queues import Queues
from stratus.runtimes.local.worker import Place, secrets_of
from stratus.runtimes.settings import Settings, from_environment
from stratus.stores.contract import Store
from stratus.stores.opening import open_store

_MEMORY = 512  # MiB, where nobody says how much there is
_OURS = 128 << 20  # bytes that the interpreter and its libraries take
_MARGIN = 1.5  # seconds that are left to send follow-ups and the reply
_RECENT = 8  # what part of the memory catalogs may take that are kept

log = logging.getLogger("stratus.functions")


class LambdaContext(Protocol):
    """What Lambda tells a handler; there is more."""

    def get_remaining_time_in_millis(self) -> int: ...


class Warm:
    """Of one instance, which has one invocation at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queues = Queues(settings.queues)
        self._store = open_store(settings.store)
        self.secrets = secrets_of({fqrn: Place(settings.store, settings.secrets) for fqrn in settings.repositories})
        self._recent: dict[str, Recent] = {}
        self._memory = (int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", _MEMORY)) << 20) - _OURS
        # Instances look the same from inside, so nobody can tell that another one has ended: its locks run out.
        self._process = new_nonce()

    def store(self, fqrn: str) -> Store:
        """Raises NoSuchRepository."""
        if fqrn not in self.settings.repositories:
            raise NoSuchRepository(f"there is no repository {fqrn[:80]} here", hint="check the name and the URL")
        return self._store

    def run(self, event: Event, context: LambdaContext) -> Reply:
        """Has an event handled in what is left of the time; hands its follow-ups on. ``tend`` finds what gets lost."""
        deadline = time.monotonic() + seconds_left(context)
        reply = dispatch(event, self._context(deadline))
        for follow_up in reply.follow_ups:
            self.queues.send(follow_up)
        return reply

    def _context(self, deadline: float) -> Context:
        meter = Meter()
        return Context(
            stores=lambda fqrn: self.store(fqrn).observed(meter),
            secrets=self.secrets,
            deadline=deadline,
            memory=self._memory,
            log=log,
            meter=meter,
            process=self._process,
            recent=self._recent_of,
        )

    def _recent_of(self, fqrn: str) -> Recent:
        share = self._memory // _RECENT // len(self.settings.repositories)
        return self._recent.setdefault(fqrn, Recent(share))


@functools.cache
def warm() -> Warm:
    """That of this instance. Raises UsageError."""
    logging.getLogger().setLevel(logging.INFO)
    return Warm(from_environment(os.environ))


def seconds_left(context: LambdaContext) -> float:
    """Until the function should have answered."""
    left = context.get_remaining_time_in_millis() / 1000
    return max(left - _MARGIN, left / 2)
