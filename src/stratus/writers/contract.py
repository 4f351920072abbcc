"""What a writer is: the one way in for every change, whatever road it takes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import msgspec

from stratus.formats.changes import Change, ChangeSet
from stratus.formats.hashes import ObjectId
from stratus.formats.receipt import Cost, Entries, Objects, Receipt, Requests, Volumes
from stratus.ingest.contract import Delivery, Policy
from stratus.repository.revision import Revision


class Lease(msgspec.Struct, frozen=True):
    """The right to change what is at and below ``path`` (None: only tags).

    Attributes:
        id: that the change set takes.
        base: the revision that everything computed by difference starts from.
        expires: UTC; None for one that nobody can take away.
    """

    id: str
    path: bytes | None
    base: int
    expires: datetime | None = None


class Uploaded(msgspec.Struct, frozen=True):
    """What an upload did: objects that were new, those that were there, and bytes: plain, stored, and sent."""

    new: int = 0
    present: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    uploaded_bytes: int = 0


class Upload(Delivery, Protocol):
    """A delivery that counts."""

    @property
    def uploaded(self) -> Uploaded:
        """What was done so far."""


class Forecast(msgspec.Struct, frozen=True):
    """What a publish would do, found out without doing it.

    ``requests`` are those of the real publish, if nobody else publishes meanwhile and no request has to be repeated.
    """

    changes: Iterable[Change]
    entries: Entries
    objects: Objects
    bytes: Volumes
    requests: Requests
    cost: Cost
    warnings: tuple[str, ...]


class Writer(Protocol):
    """Lease, upload, submit, receipt."""

    def lease(self, path: bytes | None, wait: float = 0) -> AbstractContextManager[Lease]:
        """Acquires a lease and renews it until the block ends. Raises LeaseHeld after ``wait`` seconds."""
        ...

    def look(self, path: bytes | None) -> AbstractContextManager[Lease]:
        """What a lease would start from, without one: for finding out what a publish would do."""
        ...

    def base(self, lease: Lease) -> Revision:
        """The revision that the lease starts from."""
        ...

    def policy(self, lease: Lease) -> Policy:
        """How the repository wants content to be stored."""
        ...

    def missing(self, lease: Lease, ids: Iterable[ObjectId]) -> set[ObjectId]:
        """Those that are not in the store."""
        ...

    def upload(self, lease: Lease) -> Upload:
        """Where the objects of a publish go: what the store lacks is stored."""
        ...

    def appraise(self, lease: Lease) -> Upload:
        """Finds out what ``upload`` would do; nothing is stored."""
        ...

    def forecast(self, change_set: ChangeSet) -> Forecast:
        """What submitting would do, after the objects were appraised; nothing is stored. Raises Rejected."""
        ...

    def submit(self, change_set: ChangeSet) -> str:
        """Hands a change set in under its lease; gives its id. Submitting it again changes nothing. Raises Rejected."""
        ...

    def receipt(self, change_set: str, wait: float = 0) -> Receipt | None:
        """The receipt, None if there is none after ``wait`` seconds."""
        ...
