"""Which functions there are, and what each may take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stratus.functions.contract import Event

API = "api"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Budget:
    """What one function may take.

    Attributes:
        seconds: for one event. A worker that takes longer is killed a little later.
        memory: bytes of one worker, ``RLIMIT_DATA``: what it has allocated, stacks of threads included. (The whole
            address space says nothing: 1.2 GiB at 70 MiB in use.)
        workers: how many events at once.
        waiting: how many events may wait for a worker.
    """

    seconds: float
    memory: int
    workers: int
    waiting: int


def default_budgets(api_workers: int | None = None) -> Mapping[str, Budget]:
    """By function. Without a number, the API has two workers a core."""
    cores = os.cpu_count() or 1
    return MappingProxyType(
        {
            API: Budget(seconds=30, memory=512 * _MIB, workers=api_workers or 2 * cores, waiting=64),
            "commit": Budget(seconds=60, memory=1024 * _MIB, workers=cores, waiting=256),
            "tend": Budget(seconds=60, memory=512 * _MIB, workers=1, waiting=256),
            "notify": Budget(seconds=30, memory=256 * _MIB, workers=1, waiting=256),
        }
    )


def function_of(event: Event, budgets: Mapping[str, Budget]) -> str:
    """Which function an event is for: the one that the first part of its kind names, else the API."""
    name = event.kind.partition(".")[0]
    return name if name in budgets else API
