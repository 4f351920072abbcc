from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Compression, Packing
from stratus.formats.entries import Chunk, Content, Kind
from stratus.formats.hashes import Algorithm, Suffix
from stratus.ingest.contract import Body, Draft, NewObject, Placement, Policy, Warn
from stratus.ingest.pipeline import Pipeline
from tests.ingest.reading import Kept, read

LIMITS = ChunkLimits(100, 200, 400)
FAST = Policy(Algorithm.SHA1, Packing.FAST, LIMITS)
UPSTREAM = Policy(Algorithm.SHA1, Packing.UPSTREAM, LIMITS)
PLAIN = Policy(Algorithm.SHA1, Packing.NONE, LIMITS)
EMPTY = {
    Algorithm.SHA1: "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78",
    Algorithm.RIPEMD160: "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160",
    Algorithm.SHAKE128: "28d94b83b7229b331fc601362b8e272e02665122-shake128",
}


@dataclass(frozen=True, slots=True)
class Blocks:
    """A source of files, each given as blocks."""

    files: tuple[tuple[bytes, ...], ...]
    name: str = "blocks"

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        for number, blocks in enumerate(self.files):
            body = Body(iter(blocks), sum(map(len, blocks)))
            yield Draft(b"/%d" % number, Kind.FILE, 0o644, 0, 0, body.size, 0, body=body)


def pack(policy: Policy, *files: tuple[bytes, ...]) -> tuple[list[NewObject], list[tuple[Content | None, int]]]:
    """All objects, and content and size of every file."""
    result = read(Blocks(files), policy=policy)
    return list(result.objects.values()), [(entry.content, entry.size) for entry in result.entries.values()]


def test_a_small_file_is_one_object_with_the_name_that_the_stock_tools_give() -> None:
    objects, [(content, size)] = pack(UPSTREAM, (b"hel", b"lo\n"))
    assert [str(new.id) for new in objects] == ["5798f7f4ca7585d850eea64610a1f73d8f8de7a3"]
    assert (objects[0].plain_size, size) == (6, 6)
    assert content == Content(Algorithm.SHA1, objects[0].id.digest)


def test_without_compression_the_name_is_that_of_the_plain_bytes() -> None:
    objects, [(content, _)] = pack(PLAIN, (b"hello\n",))
    assert str(objects[0].id) == "f572d396fae9206628714fb2ce00f72e94f2258f"
    assert objects[0].stored == b"hello\n"
    assert content is not None
    assert content.compression is Compression.NONE


def test_the_fast_policy_makes_zlib_streams_too() -> None:
    plain = b"some text " * 10
    (new,), [(content, _)] = pack(FAST, (plain,))
    assert content == Content(Algorithm.SHA1, new.id.digest, Compression.ZLIB)
    assert len(new.stored) < len(plain)
    assert Compression.ZLIB.unpack(new.stored) == plain


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("packing", list(Packing))
def test_the_empty_file_is_the_stock_object_whatever_the_policy(algorithm: Algorithm, packing: Packing) -> None:
    objects, files = pack(Policy(algorithm, packing, LIMITS), (), (b"",))
    assert [(str(new.id), new.stored.hex(), new.plain_size) for new in objects] == [
        (EMPTY[algorithm], "789c030000000001", 0)
    ]
    assert files == [(Content(algorithm, objects[0].id.digest, Compression.ZLIB), 0)] * 2


def test_a_large_file_is_cut_into_partial_objects_that_make_it_up() -> None:
    data = b"\1" * 150 + bytes(500)
    policy = Policy(Algorithm.SHAKE128, Packing.UPSTREAM, LIMITS)
    objects, [(content, size)] = pack(policy, (data[:333], data[333:]))
    assert content is not None
    assert {new.id.suffix for new in objects} == {Suffix.PARTIAL}
    assert [new.id for new in objects] == list(content.objects())
    assert content.digest is None
    assert [(chunk.offset, chunk.size) for chunk in content.chunks] == [(0, 100), (100, 400), (500, 150)]
    assert [new.plain_size for new in objects] == [100, 400, 150]
    assert b"".join(Compression.ZLIB.unpack(new.stored) for new in objects) == data
    assert size == len(data)


def test_a_file_that_is_not_cut_is_a_bulk_object_even_above_the_minimum() -> None:
    objects, [(content, _)] = pack(UPSTREAM, (bytes(400),))
    assert [new.id.suffix for new in objects] == [Suffix.DATA]
    assert content is not None
    assert content.chunks == ()


def test_without_limits_a_file_is_one_object() -> None:
    objects, [(content, _)] = pack(Policy(Algorithm.SHA1, Packing.UPSTREAM, None), (bytes(1000),) * 5)
    assert [new.plain_size for new in objects] == [5000]
    assert content is not None
    assert content.chunks == ()


def test_equal_contents_are_one_object() -> None:
    objects, [first, again, (cut, _)] = pack(UPSTREAM, (b"same",), (b"sa", b"me"), (bytes(1600),))
    assert first == again
    assert len(objects) == 2
    assert cut is not None
    assert cut.chunks == tuple(Chunk(offset, 400, objects[1].id.digest) for offset in range(0, 1600, 400))


def test_a_chunk_and_a_bulk_object_with_equal_bytes_are_two_objects() -> None:
    (bulk, partial), _ = pack(UPSTREAM, (bytes(400),), (bytes(800),))
    assert bulk.id.digest == partial.id.digest
    assert bulk.id != partial.id


@pytest.mark.parametrize("sizes", [(1, 2000), (399, 401), (100, 7), (5000, 1)])
def test_the_result_does_not_depend_on_the_blocks(sizes: tuple[int, int]) -> None:
    data = random.Random(3).randbytes(5000)
    blocks: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(blocks) % 2]
        blocks.append(data[position : position + size])
        position += size
    assert pack(PLAIN, tuple(blocks)) == pack(PLAIN, (data,))


def test_memory_is_bounded_by_the_chunk_size() -> None:
    maximum, block, blocks = 4 << 20, bytes(256 << 10), 256
    kept = Kept()
    policy = Policy(Algorithm.SHA1, Packing.NONE, ChunkLimits(1 << 20, 2 << 20, maximum))
    tracemalloc.start()
    try:
        with Pipeline(policy, kept, print) as pipeline:
            pipeline.add(b"/zeros", Body((block for _ in range(blocks)), blocks * len(block)))
            pipeline.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [new.plain_size for new in kept.objects.values()] == [maximum]  # all chunks are equal
    assert peak < 4 * maximum
