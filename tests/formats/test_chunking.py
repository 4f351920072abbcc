from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratus.errors import UsageError
from stratus.formats.catalog import Catalog
from stratus.formats.chunking import ChunkDetector, ChunkLimits
from stratus.formats.entries import Content
from stratus.formats.hashes import Digest, ObjectId, Suffix
from tests import stock

_STOCK_LIMITS = ChunkLimits(64 << 10, 128 << 10, 256 << 10)


def cuts(data: bytes, limits: ChunkLimits, sizes: list[int] | None = None) -> list[int]:
    """The cuts in ``data``, fed in pieces of the given sizes over and over."""
    detector = ChunkDetector(limits)
    found: list[int] = []
    position = turn = 0
    sizes = sizes or [len(data) or 1]
    while position < len(data):
        size = sizes[turn % len(sizes)]
        found += detector.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    return found


def cuts_by_definition(data: bytes, limits: ChunkLimits) -> list[int]:
    """The stock detector, byte by byte."""
    found: list[int] = []
    last = 0
    threshold = 0xFFFFFFFF // limits.average
    while True:
        register = 0
        for byte in data[last + limits.minimum - 32 : last + limits.minimum]:
            register = (register << 1 ^ byte) & 0xFFFFFFFF
        cut = last + limits.maximum
        for position in range(last + limits.minimum, min(cut, len(data))):
            register = (register << 1 ^ data[position]) & 0xFFFFFFFF
            distance = (register - 0x7FFFFFFF) & 0xFFFFFFFF
            signed = distance - (1 << 32) if distance >> 31 else distance
            if abs(signed) < threshold or signed == -(1 << 31):
                cut = position
                break
        if cut >= len(data):
            return found
        found.append(cut)
        last = cut


def test_the_test_vector_is_cut_where_the_stock_tools_cut_it() -> None:
    state = 42
    data = bytearray()
    for _ in range(6_000_000):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        data.append(state >> 56)
    assert data[:16].hex() == "913969a1ae06052779065b87eb53cb64"
    limits = ChunkLimits(512000, 1024000, 2048000)
    assert cuts(bytes(data), limits)[:6] == [742752, 2790752, 3521796, 4188893, 4940543, 5884591]


@pytest.mark.parametrize("name", ["sample", "links", "shake", "w1"])
def test_chunked_files_of_the_stock_publisher_are_cut_where_it_cut_them(name: str, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path)
    manifest = repository.read(".cvmfspublished").splitlines()
    root = next(line[1:].decode() for line in manifest if line.startswith(b"C"))
    files = list(_chunked(repository, Digest.parse(root)))
    assert files
    for content in files:
        pieces = [content.compression.unpack(repository.stored(name)) for name in content.objects()]
        if content.digest is not None:
            pieces.pop()
        assert cuts(b"".join(pieces), _STOCK_LIMITS) == [chunk.offset for chunk in content.chunks[1:]]


def _chunked(repository: stock.StockRepository, digest: Digest) -> list[Content]:
    with Catalog.parse(repository.plain(ObjectId(digest, Suffix.CATALOG))) as catalog:
        contents = [row.entry.content for row in catalog.walk()]
        found = [content for content in contents if content and content.chunks and not content.external]
        for nested in catalog.nested():
            found += _chunked(repository, nested.digest)
    return found


def test_runs_of_ones_are_cut_at_each_minimum_and_zeros_at_each_maximum() -> None:
    limits = ChunkLimits(100, 200, 400)
    assert cuts(b"\1" * 1000, limits) == list(range(100, 1000, 100))
    assert cuts(b"\0" * 1000, limits) == [400, 800]


def test_a_cut_at_the_end_of_the_file_is_dropped() -> None:
    limits = ChunkLimits(100, 200, 400)
    assert cuts(bytes(400), limits) == []
    assert cuts(bytes(401), limits) == [400]


def test_a_file_of_the_minimum_size_is_never_cut() -> None:
    limits = ChunkLimits(100, 200, 400)
    assert cuts(b"\1" * 100, limits) == []
    assert cuts(b"\1" * 101, limits) == [100]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    alphabet=st.sampled_from([bytes(range(256)), b"\0\1", b"\1", b"\0", b"\xff\x80\1\0"]),
    length=st.integers(0, 6000),
    minimum=st.integers(32, 300),
    spread=st.tuples(st.integers(1, 300), st.integers(1, 600)),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=5),
)
def test_cuts_follow_the_definition_whatever_the_pieces(
    seed: int, alphabet: bytes, length: int, minimum: int, spread: tuple[int, int], sizes: list[int]
) -> None:
    data = bytes(random.Random(seed).choices(alphabet, k=length))
    limits = ChunkLimits(minimum, minimum + spread[0], minimum + sum(spread))
    expected = cuts_by_definition(data, limits)
    assert cuts(data, limits) == expected
    assert cuts(data, limits, sizes) == expected


@pytest.mark.parametrize("sizes", [[1 << 20], [65536], [65537, 1], [31, 100_000], [4097]])
def test_cuts_of_large_pieces_do_not_depend_on_their_sizes(sizes: list[int]) -> None:
    data = random.Random(7).randbytes(1_500_000)
    limits = ChunkLimits(4096, 65536, 200_000)
    found = cuts(data, limits)
    assert len(found) > 10
    assert cuts(data, limits, sizes) == found == cuts_by_definition(data, limits)


@pytest.mark.parametrize("limits", [(31, 64, 128), (64, 64, 128), (64, 128, 128), (128, 64, 32)])
def test_limits_that_cannot_be_are_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError) as caught:
        ChunkLimits(*limits)
    assert caught.value.hint


def test_the_limits_are_those_of_the_stock_publisher() -> None:
    assert ChunkLimits() == ChunkLimits(4194304, 8388608, 16777216)
