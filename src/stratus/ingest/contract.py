"""What a source is, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stratus.formats import paths
from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry
from stratus.formats.hashes import Algorithm, ObjectId

DIRECTORY_SIZE = 4096  # bytes, of every directory; nobody relies on it


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to be stored: its name, its bytes, and how many bytes it has when unpacked."""

    id: ObjectId
    stored: bytes
    plain_size: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How a repository wants content: ``limits`` None leaves every file in one piece, held in memory as a whole."""

    algorithm: Algorithm
    compression: Compression
    limits: ChunkLimits | None
    xattrs: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a source's content lands.

    Attributes:
        path: the directory in the repository.
        owner: user and group id of every entry; None keeps the source's.
        strip_components: how many leading components names lose; what has no more than these is left out.
    """

    path: bytes
    owner: tuple[int, int] | None = None
    strip_components: int = 0

    def land(self, parts: Sequence[bytes]) -> bytes | None:
        """The path in the repository of a name in the source; None for what is left out, like the root itself."""
        if not parts and not self.strip_components:
            return self.path or None
        kept = parts[self.strip_components :]
        return self.path + paths.join(tuple(kept)) if kept else None


class Source(Protocol):
    """Where new content comes from."""

    @property
    def name(self) -> str:
        """For messages."""

    def read(self, policy: Policy, placement: Placement, warn: Callable[[str], None]) -> Iterator[NewObject | Entry]:
        """New objects, each once, and entries with their final paths, each after the objects that it names.

        A later entry replaces an earlier one at the same path. Ancestors that the source does not have are not
        yielded. ``warn`` hears of what cannot be published as it is. Raises BadSource.
        """
