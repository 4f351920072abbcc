from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from stratus.errors import BadFormat, Rejected
from stratus.formats import rows
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row, Transition, Xattrs
from stratus.formats.hashes import Algorithm, Digest
from tests.formats import strategies

ENTRY = Entry(b"/a/b", Kind.FILE, 0o644, 1, 2, 3, 4, content=Content(Algorithm.SHA1, Digest(Algorithm.SHA1, bytes(20))))
DIRECTORY = Entry(b"/a", Kind.DIRECTORY, 0o755, 0, 0, 4096, 0)


def columns(row: Row) -> dict[str, Any]:
    return dict(zip(rows.COLUMNS, rows.encode(row), strict=True))


def decoded(row: Row) -> Row:
    content = row.entry.content
    chunks = tuple((chunk.offset, chunk.size, chunk.digest.raw) for chunk in content.chunks) if content else ()
    return rows.decode(row.entry.path, rows.encode(row), chunks)


@given(strategies.rows())
def test_a_row_survives_its_columns(row: Row) -> None:
    assert decoded(row) == row


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (Content(Algorithm.SHA1, None), 4),
        (Content(Algorithm.SHAKE128, None, Compression.NONE), 2564),
        (Content(Algorithm.SHAKE128, None, Compression.NONE, (Chunk(0, 3, Digest(Algorithm.SHAKE128, b"")),)), 2628),
        (Content(Algorithm.RIPEMD160, None), 260),
        (Content(Algorithm.SHA1, None, external=True), 132),
        (Content(Algorithm.SHA1, None, direct_io=True), 65540),
    ],
)
def test_flags_of_files_carry_hash_compression_and_chunks(content: Content, flags: int) -> None:
    assert columns(Row(replace(ENTRY, content=content)))["flags"] == flags


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        (Row(DIRECTORY), 1),
        (Row(DIRECTORY, transition=Transition.MOUNTPOINT), 3),
        (Row(DIRECTORY, transition=Transition.ROOT), 33),
        (Row(DIRECTORY, transition=Transition.BIND), 16385),
        (Row(DIRECTORY, transition=Transition.MOUNTPOINT, hidden=True), 32771),
        (Row(Entry(b"/l", Kind.SYMLINK, 0o777, 0, 0, 1, 0, target=b"x")), 12),
        (Row(Entry(b"/f", Kind.FIFO, 0o600, 0, 0, 0, 0)), 20),
        (Row(Entry(b"/d", Kind.BLOCK, 0o600, 0, 0, 0, 0, rdev=5)), 20),
    ],
)
def test_flags_of_everything_else_carry_neither(row: Row, flags: int) -> None:
    assert columns(row)["flags"] == flags
    assert decoded(row) == row


def test_the_link_count_shares_a_column_with_the_group() -> None:
    assert columns(Row(replace(ENTRY, group=3), links=2))["hardlinks"] == 12884901890


def test_nanoseconds_have_their_own_column_and_none_is_null() -> None:
    late = columns(Row(replace(ENTRY, mtime_ns=1_500_000_000_000_000_007)))
    assert (late["mtime"], late["mtimens"]) == (1_500_000_000, 7)
    early = columns(Row(replace(ENTRY, mtime_ns=-1)))
    assert (early["mtime"], early["mtimens"]) == (-1, 999_999_999)
    assert columns(Row(replace(ENTRY, mtime_ns=5_000_000_000)))["mtimens"] is None


def test_a_device_keeps_its_number_in_the_size() -> None:
    assert columns(Row(Entry(b"/d", Kind.CHARACTER, 0o600, 0, 0, 0, 0, rdev=0x103)))["size"] == 0x103


def test_the_root_has_no_name_and_no_parent() -> None:
    found = columns(Row(replace(DIRECTORY, path=b"")))
    assert (found["name"], found["parent_1"], found["parent_2"]) == (b"", 0, 0)
    assert found["md5path_1"] == 338333539836370388


def test_a_symlink_is_as_long_as_its_target_whatever_is_stored() -> None:
    values = list(rows.encode(Row(Entry(b"/l", Kind.SYMLINK, 0o777, 0, 0, 3, 0, target=b"abc"))))
    values[rows.COLUMNS.index("size")] = 0
    assert rows.decode(b"/l", tuple(values)).entry.size == 3


@pytest.mark.parametrize(
    ("column", "value"), [("mode", 0o777), ("flags", 35), ("flags", 4 | 3 << 8), ("flags", 4 | 2 << 11)]
)
def test_a_row_that_contradicts_itself_is_refused(column: str, value: int) -> None:
    row = Row(DIRECTORY) if value == 35 else Row(ENTRY)
    values = list(rows.encode(row))
    values[rows.COLUMNS.index(column)] = value
    with pytest.raises(BadFormat):
        rows.decode(row.entry.path, tuple(values))


def test_a_file_without_content_cannot_be_written() -> None:
    with pytest.raises(Rejected, match="without content"):
        rows.encode(Row(replace(ENTRY, content=None)))


@given(strategies.xattrs)
def test_extended_attributes_survive_their_blob(xattrs: Xattrs) -> None:
    assert rows.unpack_xattrs(rows.pack_xattrs(xattrs)) == xattrs


def test_the_blob_of_one_attribute_is_that_of_the_stock_tools() -> None:
    assert rows.pack_xattrs(((b"user.foo", b"bar"),)) == bytes.fromhex("01010803757365722e666f6f626172")
    assert rows.pack_xattrs(()) is None


@pytest.mark.parametrize(
    "xattrs",
    [
        ((b"user." + b"x" * 251, b""),),
        ((b"user.x", b"x" * 256),),
        ((b"", b"x"),),
        ((b"user.\0", b"x"),),
        tuple((b"user.%d" % number, b"") for number in range(256)),
    ],
    ids=["long key", "long value", "no key", "NUL", "too many"],
)
def test_attributes_that_would_wrap_around_are_rejected(xattrs: Xattrs) -> None:
    with pytest.raises(Rejected) as caught:
        rows.pack_xattrs(xattrs, b"/a")
    assert caught.value.reason == "bad_xattr"


@pytest.mark.parametrize("blob", ["", "01", "0200", "02010101", "0101", "01010801", "0101010261ff", "010201016161"])
def test_a_blob_that_is_cut_off_or_of_another_version_has_no_attributes(blob: str) -> None:
    assert rows.unpack_xattrs(bytes.fromhex(blob)) == ()
