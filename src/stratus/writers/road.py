"""Roads: the ways on which a writer's leases and change sets reach a repository."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from stratus.formats.catalog import Nested
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Epoch
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings


class Basis(msgspec.Struct, frozen=True):
    """What a writer starts from.

    Attributes:
        revision: the newest one; ``root`` the reference to its root catalog.
        epoch: of garbage collection, read before the revision: what that one names is present in it.
        era: says which epoch of which repository it is; what was stored in one era is there until the next.
    """

    revision: int
    root: Nested
    settings: Settings
    epoch: Epoch
    era: str


class Granted(msgspec.Struct, frozen=True):
    """A lease as a road gave it; ``ttl`` in seconds, ``expires`` UTC if nobody renews it."""

    id: str
    path: bytes | None
    ttl: int
    expires: datetime
    basis: Basis


class Road(Protocol):
    """Thread-safe: a lease is renewed from another thread."""

    def look(self) -> Basis:
        """What a lease would start from, without one."""

    def acquire(self, path: bytes | None, wait: float) -> Granted:
        """Raises LeaseHeld after ``wait`` seconds."""

    def renew(self, lease: Granted) -> None:
        """Raises LeaseLost."""

    def release(self, lease: Granted) -> None:
        """Ends a lease under which nothing was submitted."""

    def submit(self, lease: Granted, file: bytes, change_set: ChangeSet) -> Receipt:
        """Submits the packed change set and waits for its receipt. Raises LeaseLost, Busy."""

    def receipt(self, change_set: str) -> Receipt | None:
        """The receipt, if there is one."""
