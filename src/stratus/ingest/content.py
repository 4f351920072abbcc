"""The bytes of files to objects: cut, packed and named piece by piece.

At any time one piece is held, plain and packed: at most the maximum chunk size, or the whole file where a repository
does not cut files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from stratus.formats.chunking import ChunkDetector
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content
from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.ingest.contract import NewObject, Policy

BLOCK_SIZE = 256 << 10  # bytes, of reads


class Packer:
    """Makes objects under one policy and remembers their names, so that each is yielded once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._yielded: set[bytes] = set()

    def add(self, blocks: Iterable[bytes]) -> Generator[NewObject, None, tuple[Content, int]]:
        """Yields the new objects of a file that is read block by block; returns its content and its size in bytes."""
        policy = self._policy
        detector = None if policy.limits is None else ChunkDetector(policy.limits)
        chunks: list[Chunk] = []
        held: list[memoryview] = []
        start = size = 0  # of the piece that is held; of what was read
        for block in blocks:
            rest = memoryview(block)
            for cut in detector.feed(block) if detector else ():
                held.append(rest[: cut - size])
                rest = rest[cut - size :]
                size = cut
                # A cut always has a byte behind it: this cannot be the only piece.
                digest = yield from self._pack(held, policy.compression, Suffix.PARTIAL)
                chunks.append(Chunk(start, cut - start, digest))
                start = cut
            held.append(rest)
            size += len(rest)
        # Stock clients and tools know the empty file by its zlib form alone.
        compression = policy.compression if size else Compression.ZLIB
        digest = yield from self._pack(held, compression, Suffix.PARTIAL if chunks else Suffix.DATA)
        if not chunks:
            return Content(policy.algorithm, digest, compression), size
        chunks.append(Chunk(start, size - start, digest))
        return Content(policy.algorithm, None, compression, tuple(chunks)), size

    def _pack(
        self, held: list[memoryview], compression: Compression, suffix: Suffix
    ) -> Generator[NewObject, None, Digest]:
        """The digest of the object with what is held, which is let go; yields the object if it is new."""
        plain_size = sum(map(len, held))
        plain = b"".join(held)
        held.clear()
        stored = compression.pack(plain)
        del plain  # it would stay for as long as whoever reads us works on the object
        digest = self._policy.algorithm.digest(stored)
        name = digest.raw + suffix.value.encode()
        if name not in self._yielded:
            self._yielded.add(name)
            yield NewObject(ObjectId(digest, suffix), stored, plain_size)
        return digest
