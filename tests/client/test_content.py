from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.client.cache import Cache
from stratus.client.content import ContentReader, Piece, pieces
from stratus.errors import BadFormat, StratusError
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from tests.client.trees import directory, row

SHA1 = Algorithm.SHA1
DATA = bytes(range(256)) * 4


def entry(*cuts: int, size: int = len(DATA)) -> Entry:
    """A file of DATA, cut at these offsets."""
    edges = [0, *cuts, size]
    chunks = tuple(Chunk(start, end - start, SHA1.digest(DATA[start:end])) for start, end in pairwise(edges))
    content = Content(SHA1, None, chunks=chunks) if cuts else Content(SHA1, SHA1.digest(DATA))
    return row(b"/f", Kind.FILE, 0o644, size=size, content=content).entry


def test_a_file_of_one_object_is_one_piece() -> None:
    assert list(pieces(entry(), 10, 20)) == [Piece(ObjectId(SHA1.digest(DATA)), 1024, 10, 30)]
    assert list(pieces(entry(), 1000, 500)) == [Piece(ObjectId(SHA1.digest(DATA)), 1024, 1000, 1024)]
    assert list(pieces(entry(), 1024, 1)) == []


def test_a_read_across_chunks_is_a_piece_of_each() -> None:
    found = list(pieces(entry(100, 200), 90, 120))
    assert [(piece.size, piece.start, piece.end) for piece in found] == [(100, 90, 100), (100, 0, 100), (824, 0, 10)]
    assert {piece.object_id.suffix for piece in found} == {Suffix.PARTIAL}


def test_chunks_that_leave_a_gap_are_an_error() -> None:
    whole = entry(100, 200)
    assert whole.content is not None
    holed = replace(whole, content=replace(whole.content, chunks=(whole.content.chunks[0], whole.content.chunks[2])))
    assert len(list(pieces(holed, 0, 100))) == 1
    with pytest.raises(BadFormat, match="do not cover byte 100"):
        list(pieces(holed, 0, 300))
    with pytest.raises(BadFormat, match="do not cover byte 1024"):
        list(pieces(replace(whole, size=2000), 1000, 1000))


def test_what_has_no_object_cannot_be_read() -> None:
    with pytest.raises(BadFormat, match="no content"):
        list(pieces(directory(b"/d").entry, 0, 1))
    with pytest.raises(BadFormat, match="names no object"):
        list(pieces(replace(entry(), content=Content(SHA1, None)), 0, 1))
    with pytest.raises(StratusError, match="outside of the repository"):
        list(pieces(replace(entry(), content=Content(SHA1, SHA1.digest(b""), external=True)), 0, 1))


def fetch(object_id: ObjectId, compression: Compression, size: int | None) -> bytes:
    """Any part of DATA."""
    assert size is not None
    parts = (DATA[start : start + size] for start in range(len(DATA)))
    return next(part for part in parts if SHA1.digest(part) == object_id.digest)


@settings(max_examples=50, deadline=None)
@given(
    st.sets(st.integers(1, 1023), max_size=5).map(sorted),
    st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 1100)), min_size=1, max_size=4),
)
def test_any_read_gives_what_a_local_file_would(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], spans: list[tuple[int, int]]
) -> None:
    reader = ContentReader(Cache(tmp_path_factory.mktemp("cache"), fetch))
    for offset, size in spans:
        assert reader.read(entry(*cuts), offset, size) == DATA[offset : offset + size]
        assert reader.read_cached(entry(*cuts), offset, size) == DATA[offset : offset + size]


def test_nothing_is_fetched_where_only_the_cache_is_asked(tmp_path: Path) -> None:
    reader = ContentReader(Cache(tmp_path, fetch))
    assert reader.read_cached(entry(100), 0, 10) is None
    reader.read(entry(100), 0, 10)
    assert reader.read_cached(entry(100), 0, 10) == DATA[:10]
    assert reader.read_cached(entry(100), 90, 20) is None
