from __future__ import annotations

import random
import tracemalloc
from collections.abc import Generator, Iterator

import pytest

from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content
from stratus.formats.hashes import Algorithm, Suffix
from stratus.ingest.content import BLOCK_SIZE, Packer
from stratus.ingest.contract import NewObject, Policy

LIMITS = ChunkLimits(100, 200, 400)
EMPTY = {
    Algorithm.SHA1: "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78",
    Algorithm.RIPEMD160: "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160",
    Algorithm.SHAKE128: "28d94b83b7229b331fc601362b8e272e02665122-shake128",
}


def add(packer: Packer, *blocks: bytes) -> tuple[list[NewObject], Content, int]:
    """The new objects, the content and the size of a file in blocks."""
    objects: list[NewObject] = []

    def run() -> Generator[NewObject, None, tuple[Content, int]]:
        return (yield from packer.add(blocks))

    steps = run()
    while True:
        try:
            objects.append(next(steps))
        except StopIteration as stop:
            content, size = stop.value
            return objects, content, size


def test_a_small_file_is_one_object_with_the_name_that_the_stock_tools_give() -> None:
    objects, content, size = add(Packer(Policy(Algorithm.SHA1, Compression.ZLIB, LIMITS)), b"hel", b"lo\n")
    assert [str(new.id) for new in objects] == ["5798f7f4ca7585d850eea64610a1f73d8f8de7a3"]
    assert (objects[0].plain_size, size) == (6, 6)
    assert content == Content(Algorithm.SHA1, objects[0].id.digest)


def test_without_compression_the_name_is_that_of_the_plain_bytes() -> None:
    objects, content, _ = add(Packer(Policy(Algorithm.SHA1, Compression.NONE, LIMITS)), b"hello\n")
    assert str(objects[0].id) == "f572d396fae9206628714fb2ce00f72e94f2258f"
    assert objects[0].stored == b"hello\n"
    assert content.compression is Compression.NONE


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("compression", list(Compression))
def test_the_empty_file_is_the_stock_object_whatever_the_policy(algorithm: Algorithm, compression: Compression) -> None:
    packer = Packer(Policy(algorithm, compression, LIMITS))
    objects, content, size = add(packer)
    assert [(str(new.id), new.stored.hex(), new.plain_size) for new in objects] == [
        (EMPTY[algorithm], "789c030000000001", 0)
    ]
    assert content == Content(algorithm, objects[0].id.digest, Compression.ZLIB)
    assert size == 0
    assert add(packer)[0] == []


def test_a_large_file_is_cut_into_partial_objects_that_make_it_up() -> None:
    data = b"\1" * 150 + bytes(500)
    objects, content, size = add(Packer(Policy(Algorithm.SHAKE128, Compression.ZLIB, LIMITS)), data[:333], data[333:])
    assert {new.id.suffix for new in objects} == {Suffix.PARTIAL}
    assert [new.id for new in objects] == list(content.objects())
    assert content.digest is None
    assert [(chunk.offset, chunk.size) for chunk in content.chunks] == [(0, 100), (100, 400), (500, 150)]
    assert [new.plain_size for new in objects] == [100, 400, 150]
    assert b"".join(Compression.ZLIB.unpack(new.stored) for new in objects) == data
    assert size == len(data)


def test_a_file_that_is_not_cut_is_a_bulk_object_even_above_the_minimum() -> None:
    objects, content, _ = add(Packer(Policy(Algorithm.SHA1, Compression.ZLIB, LIMITS)), bytes(400))
    assert [new.id.suffix for new in objects] == [Suffix.DATA]
    assert content.chunks == ()


def test_without_limits_a_file_is_one_object() -> None:
    objects, content, _ = add(Packer(Policy(Algorithm.SHA1, Compression.ZLIB, None)), *[bytes(1000)] * 5)
    assert [new.plain_size for new in objects] == [5000]
    assert content.chunks == ()


def test_equal_contents_are_one_object() -> None:
    packer = Packer(Policy(Algorithm.SHA1, Compression.ZLIB, LIMITS))
    first = add(packer, b"same")
    again = add(packer, b"sa", b"me")
    assert again == ([], *first[1:])
    objects, content, _ = add(packer, bytes(1600))
    assert len(objects) == 1
    assert content.chunks == tuple(Chunk(offset, 400, objects[0].id.digest) for offset in range(0, 1600, 400))


def test_a_chunk_and_a_bulk_object_with_equal_bytes_are_two_objects() -> None:
    packer = Packer(Policy(Algorithm.SHA1, Compression.ZLIB, LIMITS))
    (bulk,), _, _ = add(packer, bytes(400))
    (partial,), _, _ = add(packer, bytes(800))
    assert bulk.id.digest == partial.id.digest
    assert bulk.id != partial.id


@pytest.mark.parametrize("sizes", [(1, 2000), (399, 401), (100, 7), (5000, 1)])
def test_the_result_does_not_depend_on_the_blocks(sizes: tuple[int, int]) -> None:
    data = random.Random(3).randbytes(5000)
    policy = Policy(Algorithm.SHA1, Compression.NONE, LIMITS)
    blocks: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(blocks) % 2]
        blocks.append(data[position : position + size])
        position += size
    assert add(Packer(policy), *blocks) == add(Packer(policy), data)


def test_memory_is_bounded_by_the_chunk_size() -> None:
    maximum = 4 << 20

    def zeros() -> Iterator[bytes]:
        for _ in range((64 << 20) // BLOCK_SIZE):
            yield bytes(BLOCK_SIZE)

    packer = Packer(Policy(Algorithm.SHA1, Compression.NONE, ChunkLimits(1 << 20, 2 << 20, maximum)))
    tracemalloc.start()
    try:
        stored = sum(new.plain_size for new in packer.add(zeros()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stored == maximum  # all chunks are equal
    assert peak < 4 * maximum
