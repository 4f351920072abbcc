from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats import signed
from stratus.formats.hashes import Algorithm, Digest
from tests.formats.strategies import digests

DIGEST = Algorithm.SHA1.digest(b"Sa\n")
BODIES = st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and line != b"--"), min_size=1)


@given(BODIES, digests, st.binary(min_size=1))
def test_a_document_is_taken_apart_as_it_was_joined(lines: list[bytes], digest: Digest, signature: bytes) -> None:
    body = b"".join(line + b"\n" for line in lines)
    document = signed.split(signed.join(body, digest, signature))
    assert document == signed.Signed(body, digest, signature)
    assert signed.lines(signed.join(body, digest, signature)) == signed.lines(body) == lines


def test_the_hash_covers_the_newline_before_the_mark_and_is_signed_without_one() -> None:
    document = signed.split(signed.join(b"Sa\n", DIGEST, b"signature"))
    assert document.is_intact
    assert document.text == str(DIGEST).encode()
    assert not signed.split(signed.join(b"Sb\n", DIGEST, b"signature")).is_intact


def test_the_first_mark_ends_the_body() -> None:
    tail = b"\n--\n" + str(DIGEST).encode() + b"\nsignature"
    document = signed.split(b"Sa\n--\n" + str(DIGEST).encode() + b"\n" + tail)
    assert document.body == b"Sa\n"
    assert document.signature == tail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Sa\n",
        b"Sa\n--\n",
        b"Sa\n--\n%s" % str(DIGEST).encode(),
        b"Sa\n--\n%s\n" % str(DIGEST).encode(),
        b"Sa\r\n--\r\n%s\r\nx" % str(DIGEST).encode(),
        b"--\n%s\nx" % str(DIGEST).encode(),
        b"Sa\n--\n%s\nx" % str(DIGEST).upper().encode(),
        b"Sa\n--\nd41d8cd98f00b204e9800998ecf8427e\nx",
        b"Sa\n--\n\nx",
        b"Sa\n--\n\xff\nx",
    ],
    ids=["empty", "body", "mark", "hash", "unsigned", "CRLF", "bodiless", "upper", "md5", "hashless", "binary"],
)
def test_what_is_no_signed_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        signed.split(data)
