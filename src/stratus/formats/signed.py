"""Signed text: the envelope of manifest and whitelist.

Lines of text, a line ``--``, a line with the hash of the text (its last newline included), then the raw signature up
to the end of the file. What is signed is the text form of the hash, without a newline; the two documents are signed
by different schemes (see ``certificates``). Source: ``cvmfs/crypto/signature.cc``.
"""

from __future__ import annotations

import msgspec

from stratus.errors import BadFormat
from stratus.formats.hashes import Digest

_MARK = b"\n--\n"


class Signed(msgspec.Struct, frozen=True):
    """A document taken apart; nothing is verified.

    Attributes:
        body: everything before ``--``, its last newline included.
        digest: what the hash line claims to be the hash of ``body``.
        signature: raw.
    """

    body: bytes
    digest: Digest
    signature: bytes

    @property
    def is_intact(self) -> bool:
        """Whether the hash line is the hash of the body."""
        return self.digest.algorithm.digest(self.body) == self.digest

    @property
    def text(self) -> bytes:
        """The bytes that are signed."""
        return str(self.digest).encode()


def split(data: bytes) -> Signed:
    """Takes a document apart. Raises BadFormat without mark, hash line or signature."""
    body, mark, rest = data.partition(_MARK)
    line, newline, signature = rest.partition(b"\n")
    if not mark or not newline or not signature:
        raise BadFormat("a document without a signature", hint="it is cut off, or not a CernVM-FS file at all")
    return Signed(body + b"\n", Digest.parse(ascii_text(line)), signature)


def join(body: bytes, digest: Digest, signature: bytes) -> bytes:
    """The document of a body that ends with a newline, the hash of it, and the signature of that."""
    return body + _MARK[1:] + str(digest).encode() + b"\n" + signature


def lines(data: bytes) -> list[bytes]:
    """The lines of a body, or of a whole document up to its mark; no line has a newline in it."""
    text, mark, _ = data.partition(_MARK)
    return (text if mark else text.removesuffix(b"\n")).split(b"\n")


def ascii_text(raw: bytes) -> str:
    """The text of a field. Raises BadFormat unless it is ASCII."""
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise BadFormat(f"{raw[:80]!r} is not ASCII") from None
