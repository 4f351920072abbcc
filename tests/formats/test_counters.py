from __future__ import annotations

from hypothesis import given

from stratus.formats import counters
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row
from stratus.formats.hashes import Algorithm
from tests.formats import strategies

DIGEST = Algorithm.SHA1.digest(b"")
CHUNKS = (Chunk(0, 4, DIGEST), Chunk(4, 3, DIGEST))


def counted(entry: Entry) -> dict[str, int]:
    found = counters.zero()
    counters.tally(found, Row(entry))
    return {name: count for name, count in found.items() if count}


def entry(kind: Kind, size: int = 0, content: Content | None = None) -> Entry:
    return Entry(b"/a", kind, 0o644, 0, 0, size, 0, xattrs=((b"user.a", b""),), content=content)


def test_every_kind_has_its_counter() -> None:
    assert counted(entry(Kind.DIRECTORY, 4096)) == {"dir": 1, "xattr": 1}
    assert counted(entry(Kind.SYMLINK, 5)) == {"symlink": 1, "xattr": 1}
    for kind in (Kind.FIFO, Kind.SOCKET, Kind.BLOCK, Kind.CHARACTER):
        assert counted(entry(kind)) == {"special": 1, "xattr": 1}
    assert counted(entry(Kind.FILE, 7, Content(Algorithm.SHA1, DIGEST))) == {"regular": 1, "file_size": 7, "xattr": 1}


def test_chunked_and_external_files_count_as_regular_ones_too() -> None:
    assert counted(entry(Kind.FILE, 7, Content(Algorithm.SHA1, None, Compression.ZLIB, CHUNKS, external=True))) == {
        "regular": 1,
        "file_size": 7,
        "chunked": 1,
        "chunked_size": 7,
        "chunks": 2,
        "external": 1,
        "external_file_size": 7,
        "xattr": 1,
    }


@given(strategies.rows())
def test_taking_a_row_away_undoes_counting_it(row: Row) -> None:
    found = counters.zero()
    counters.tally(found, row)
    counters.tally(found, row, -1)
    assert found == counters.zero()


def test_what_a_catalog_adds_to_its_parent_is_its_own_rows_and_all_below() -> None:
    own, below = counters.zero(), counters.zero()
    counters.add(own, {"dir": 2, "nested": 1})
    counters.add(below, {"dir": 3, "regular": 4})
    assert counters.total(own, below) == counters.zero() | {"dir": 5, "nested": 1, "regular": 4}
    counters.add(own, {"dir": 2}, -1)
    assert own == counters.zero() | {"nested": 1}
