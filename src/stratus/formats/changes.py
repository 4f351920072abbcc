"""Change sets: everything that one writer wants changed below one path, immutable once submitted."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping

import msgspec

from stratus.formats.entries import Entry
from stratus.formats.hashes import Digest, ObjectId


class Put(msgspec.Struct, frozen=True):
    """Create or replace the entry; a directory that is there keeps its content."""

    entry: Entry


class Remove(msgspec.Struct, frozen=True):
    """Remove what is at the path; a directory with content only if ``recursive``."""

    path: bytes
    recursive: bool = False


class Attach(msgspec.Struct, frozen=True):
    """Put a ready-made nested catalog, and all that hangs below it, at a path where nothing is.

    A commit does not look inside: that the catalog is what this says is settled before.

    Attributes:
        entry: the directory, as the catalog's own root row has it.
        links: the directory's link count.
        catalog: the digest of the catalog, which is in the store.
        size: bytes of its SQLite file.
        counters: of the catalog and all below, by their names in its statistics.
        made: how many of the entries in it nobody asked for: markers that balancing or the dirtab put there, less
            those that it took away.
    """

    entry: Entry
    links: int
    catalog: Digest
    size: int
    counters: Mapping[str, int]
    made: int = 0


class Tag(msgspec.Struct, frozen=True):
    """Name a revision (None: the one that this change set makes)."""

    name: str
    revision: int | None = None
    description: str = ""


class Untag(msgspec.Struct, frozen=True):
    """Forget a name."""

    name: str


Change = Put | Remove | Attach | Tag | Untag


class Usage(msgspec.Struct, frozen=True):
    """What a publish cost its writer: plain counts; ``requests`` are get, put, list, head and delete."""

    seconds: float = 0.0
    new_objects: int = 0
    present_objects: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    uploaded_bytes: int = 0
    requests: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)


class ChangeSet(msgspec.Struct, frozen=True):
    """A header and records, sorted by path components, at one path Remove before Put.

    ``changes`` and ``objects`` can be iterated more than once. ``objects`` are all that the records name, new or not.
    """

    id: str
    repository: str
    path: bytes
    changes: Iterable[Change]
    objects: Iterable[ObjectId] = ()
    base: int | None = None
    writer: str = ""
    message: str = ""
    tag: str | None = None
    expected: Mapping[bytes, Digest] = msgspec.field(default_factory=dict)
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()


def new_id() -> str:
    """A fresh id of a lease and its change set: 20 characters of base32 over 100 random bits."""
    return base64.b32encode(secrets.token_bytes(13)).decode()[:20].lower()
