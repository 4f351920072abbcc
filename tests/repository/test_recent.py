"""What a process keeps between commits."""

from __future__ import annotations

import pytest

from stratus.errors import BadFormat
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.repository.recent import Recent

PLAIN = b"a catalog, let us say" * 10
STORED = Compression.ZLIB.pack(PLAIN)
NAME = ObjectId(Algorithm.SHA1.digest(STORED), Suffix.CATALOG)


def test_what_is_kept_packed_is_unpacked_when_it_is_asked_for() -> None:
    recent = Recent()
    recent.keep(NAME, STORED)
    assert recent.get(NAME, len(PLAIN)) == PLAIN


def test_what_is_kept_plain_too_is_not_unpacked_again() -> None:
    recent = Recent()
    recent.keep(NAME, b"cannot be unpacked", PLAIN)
    assert recent.get(NAME, len(PLAIN)) is PLAIN


def test_what_is_too_large_to_be_kept_plain_is_unpacked() -> None:
    recent = Recent(most_plain=len(PLAIN) - 1)
    recent.keep(NAME, STORED, PLAIN)
    assert recent.get(NAME) == PLAIN


def test_the_last_ones_that_were_used_are_kept() -> None:
    other = ObjectId(Algorithm.SHA1.digest(b"other"), Suffix.CATALOG)
    recent = Recent(most=len(STORED) + 1, most_plain=0)
    recent.keep(NAME, STORED)
    recent.keep(other, STORED)
    assert recent.get(NAME) is None
    assert recent.get(other) == PLAIN


def test_another_size_than_the_catalogs_reference_says_is_an_error() -> None:
    recent = Recent()
    recent.keep(NAME, STORED, PLAIN)
    with pytest.raises(BadFormat):
        recent.get(NAME, len(PLAIN) + 1)
