"""The private records of a repository that are not about one change set: format, settings, lock, collection state.

JSON objects below ``.stratus/<fqrn>/``. Those that are written with ``Match`` carry ``nonce`` (random per write) and
``gen`` (one more per write), so that no two versions ever have the same bytes.
"""

from __future__ import annotations

import secrets
from typing import Literal, TypeVar

import msgspec

from stratus.errors import BadFormat, Unsuitable, UsageError
from stratus.formats import typed
from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Packing
from stratus.formats.hashes import Algorithm

FORMAT = 1
_LARGEST_CHUNK = 1 << 30  # bytes; whoever publishes holds a few of them in memory
_LEAST_WEIGHT = 100  # rows
_LONGEST_TTL = 30 * 86_400  # seconds; after that the whitelist has run out, too


def new_nonce() -> str:
    """What makes the bytes of a record unlike those of any other version of it."""
    return secrets.token_hex(8)


class Format(msgspec.Struct, frozen=True):
    """``format.json``: which layout the private state has, and what the store was found to be able to do."""

    format: int
    capabilities: dict[str, bool] = {}

    def check(self) -> None:
        """Raises Unsuitable for a layout that this version does not know."""
        if self.format != FORMAT:
            raise Unsuitable(
                f"the repository's private state has format {self.format}, this version knows {FORMAT}",
                hint="use the version of stratus that wrote it, or a newer one",
            )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``settings.json``.

    Attributes:
        hash: of new objects.
        compression: ``fast`` (zlib by ISA-L), ``upstream`` (zlib as the stock tools deflate) or ``none``.
        chunk_minimum, chunk_average, chunk_maximum: limits in bytes; larger files than the minimum are cut.
        ttl: seconds that clients may go without looking for a new revision.
        garbage_collectable: whether old revisions may be collected.
        auto_tags: whether each publish without a tag gets one made of its time.
        catalog_weight: rows from which on a catalog is cut in pieces; 0 leaves them as they are.
        auto_tag_limit: how many of those are kept, the newest.
        webhooks: URLs that are told of each revision by a signed POST.
        audit: what is written into the audit trail: ``all`` that changes something, ``refusals`` only, or nothing.
    """

    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0
    hash: Literal["sha1", "rmd160", "shake128"] = "sha1"
    compression: Literal["fast", "upstream", "none"] = "fast"
    chunk_minimum: int = 4 << 20
    chunk_average: int = 8 << 20
    chunk_maximum: int = 16 << 20
    ttl: int = 240
    garbage_collectable: bool = True
    auto_tags: bool = True
    auto_tag_limit: int = 50
    catalog_weight: int = 50_000
    webhooks: tuple[str, ...] = ()
    audit: Literal["all", "refusals", "off"] = "all"

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(self.hash)

    @property
    def packing(self) -> Packing:
        return Packing(self.compression)

    def check(self) -> None:
        """Raises UsageError for what no repository could be published or read with."""
        ChunkLimits(self.chunk_minimum, self.chunk_average, self.chunk_maximum)
        if self.chunk_maximum > _LARGEST_CHUNK:
            raise UsageError(
                f"chunks of {self.chunk_maximum} bytes are too large",
                hint=f"whoever publishes holds them in memory: {_LARGEST_CHUNK} bytes (1G) are the most",
            )
        if not 1 <= self.ttl <= _LONGEST_TTL:
            raise UsageError(f"clients cannot go {self.ttl} s without looking", hint=f"1 to {_LONGEST_TTL} s can be")
        if self.catalog_weight and self.catalog_weight < _LEAST_WEIGHT:
            raise UsageError(
                f"catalogs of {self.catalog_weight} rows are too small: readers would fetch one for every few files",
                hint=f"give {_LEAST_WEIGHT} rows or more, or 0 to leave catalogs as they are",
            )
        if self.auto_tag_limit < 1:
            raise UsageError(
                "a tag that is made and removed at once is of no use",
                hint="keep 1 or more, or set auto_tags to no",
            )


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """``lock``: who commits at the moment. A hint that saves work; correctness does not rest on it.

    Attributes:
        owner: the process that holds it.
        ttl: seconds after the last write at which others may take it.
        batch: the change sets that it folds at the moment.
        deaths: of holders that had a change set in their batch and stopped renewing, by change set.
        alone: of those, how often it was the only one of the batch.
    """

    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0
    held: bool = False
    owner: str = ""
    ttl: int = 60
    batch: tuple[str, ...] = ()
    deaths: dict[str, int] = {}
    alone: dict[str, int] = {}


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """``gc/state``: the epoch of garbage collection and its phase."""

    nonce: str = msgspec.field(default_factory=new_nonce)
    gen: int = 0
    n: int = 0
    phase: Literal["quiet", "sweep", "drain"] = "quiet"
    lists: tuple[str, ...] = ()
    worker: str = ""


Record = TypeVar("Record", Format, Settings, Lock, Collection)


def pack(record: msgspec.Struct) -> bytes:
    """As JSON."""
    return msgspec.json.encode(record)


def parse(data: bytes, kind: type[Record]) -> Record:
    """Raises BadFormat."""
    try:
        return typed.from_json(data, kind)
    except msgspec.DecodeError as error:
        raise BadFormat(f"not a {kind.__name__.lower()} record: {error}") from error
