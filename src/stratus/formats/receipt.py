"""Receipts: the durable outcome of a change set, for programs and people."""

from __future__ import annotations

import builtins
import json

import msgspec
from msgspec.structs import astuple

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.outcomes import State

SCHEMA = 1


class Entries(msgspec.Struct, frozen=True):
    added: int = 0
    changed: int = 0
    removed: int = 0


class Objects(msgspec.Struct, frozen=True):
    """``present``: named by the change set and in the store already."""

    new: int = 0
    present: int = 0


class Volumes(msgspec.Struct, frozen=True):
    """Bytes: of the new content, of the objects that hold it, and of those that were sent."""

    plain: int = 0
    stored: int = 0
    uploaded: int = 0


class Requests(msgspec.Struct, frozen=True):
    """Requests to the store, of the writer and of the commit."""

    get: int = 0
    put: int = 0
    list: int = 0
    head: int = 0
    delete: int = 0

    def since(self, earlier: Requests) -> Requests:
        """What came after ``earlier`` was counted."""
        return Requests(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))

    def plus(self, other: Requests) -> Requests:
        """Both together."""
        return Requests(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def total(self) -> int:
        return self.get + self.put + self.list + self.head + self.delete


class Seconds(msgspec.Struct, frozen=True):
    ingest: float = 0.0
    queue: float = 0.0
    commit: float = 0.0


class Cost(msgspec.Struct, frozen=True):
    """What the requests cost by a dated price sheet."""

    currency: str = "USD"
    amount: float = 0.0
    sheet: str = ""


class ErrorObject(msgspec.Struct, frozen=True):
    """The error object of a rejected change set."""

    code: str
    message: str
    hint: str = ""
    path: str | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change set.

    Attributes:
        revision: the one that decided it; ``root`` the hash of its root catalog.
        time: when it was decided, Unix time in seconds.
    """

    schema: int = SCHEMA
    id: str
    state: State
    repository: str
    path: str
    revision: int
    root: str
    writer: str
    message: str
    tag: str | None = None
    time: int = 0
    entries: Entries = Entries()
    objects: Objects = Objects()
    bytes: Volumes = Volumes()
    requests: Requests = Requests()
    seconds: Seconds = Seconds()
    invocations: int = 0
    gb_seconds: float = 0.0
    cost: Cost = Cost()
    warnings: tuple[str, ...] = ()
    error: ErrorObject | None = None

    def pack(self) -> builtins.bytes:
        """As JSON in ASCII; bytes of paths that are no UTF-8 are lone surrogates, which only escapes can hold."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: builtins.bytes) -> Receipt:
        """Raises BadFormat."""
        try:
            return typed.convert(json.loads(data), cls)
        except ValueError as error:  # also those of msgspec
            raise BadFormat(f"not a receipt: {error}") from error
