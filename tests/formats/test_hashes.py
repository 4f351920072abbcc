from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from tests.formats.strategies import digests

DIGITS = "da39a3ee5e6b4b0d3255bfef95601890afd80709"


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        (Algorithm.SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Algorithm.RIPEMD160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc-rmd160"),
        (Algorithm.SHAKE128, "5881092dd818bf5cf8a3ddb793fbcba74097d5c5-shake128"),
    ],
)
def test_each_algorithm_gives_the_published_digest_of_abc(algorithm: Algorithm, text: str) -> None:
    assert str(algorithm.digest(b"abc")) == text


@given(st.sampled_from(Algorithm), st.lists(st.binary()))
def test_feeding_in_pieces_is_the_same_as_at_once(algorithm: Algorithm, pieces: list[bytes]) -> None:
    hasher = algorithm.new()
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == algorithm.digest(b"".join(pieces)).raw


@given(digests)
def test_the_text_form_is_read_back(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d41d8cd98f00b204e9800998ecf8427e",
        DIGITS.upper(),
        DIGITS[:-1],
        DIGITS + "\n",
        " " + DIGITS[1:],
        "+" + DIGITS[1:],
        DIGITS + "-sha256",
        DIGITS + "-RMD160",
        DIGITS + "C",
        "x" + DIGITS[1:],
        "٠" + DIGITS[1:],
    ],
    ids=["empty", "md5", "upper", "short", "newline", "space", "sign", "sha256", "RMD160", "suffix", "x", "arabic"],
)
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(BadFormat):
        Digest.parse(text)


def test_bits_in_flags_name_the_algorithm_and_unknown_ones_are_refused() -> None:
    assert [Algorithm.from_bits(bits) for bits in range(3)] == list(Algorithm)
    assert [algorithm.bits for algorithm in Algorithm] == [0, 1, 2]
    with pytest.raises(BadFormat):
        Algorithm.from_bits(3)


def test_a_key_has_the_algorithm_before_the_letter() -> None:
    digest = Digest(Algorithm.SHAKE128, bytes.fromhex(DIGITS))
    name = ObjectId(digest, Suffix.CATALOG)
    assert name.key == "data/da/39a3ee5e6b4b0d3255bfef95601890afd80709-shake128C"
    assert str(name) == f"{DIGITS}-shake128C"
