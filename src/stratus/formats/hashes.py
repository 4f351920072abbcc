"""Hash algorithms, digests in their text forms, and the names of objects.

An object is named by the hash of its *stored* bytes. The text form of a digest is lower-case hex, followed by
``-rmd160`` or ``-shake128`` for the two algorithms that are not the default; all three have 20 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from stratus.errors import BadFormat

if TYPE_CHECKING:
    from typing_extensions import Buffer

DIGEST_SIZE = 20
_HEX = frozenset("0123456789abcdef")


class Hasher(Protocol):
    """What all algorithms have in common: feed bytes, then ask for the 20-byte digest."""

    def update(self, data: Any, /) -> None: ...  # Buffer; typeshed is narrower for some
    def digest(self) -> bytes: ...


class _Shake128:
    """SHAKE-128 squeezed to 160 bits, behind the interface of the fixed-length algorithms."""

    def __init__(self, data: Buffer = b"") -> None:
        self._state = hashlib.shake_128(data)

    def update(self, data: Buffer, /) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        return self._state.digest(DIGEST_SIZE)


def _ripemd160(data: Buffer = b"") -> Hasher:
    """RIPEMD-160 from OpenSSL where its provider has it (not everywhere since 3.0), else from PyCryptodome."""
    try:
        return hashlib.new("ripemd160", data)
    except ValueError:
        from Crypto.Hash import RIPEMD160

        hasher: Hasher = RIPEMD160.new(bytes(data))
        return hasher


class Algorithm(Enum):
    """A hash algorithm of object names; the value is its name in settings."""

    SHA1 = "sha1"
    RIPEMD160 = "rmd160"
    SHAKE128 = "shake128"

    @property
    def bits(self) -> int:
        """The number in catalog flags: 0, 1, 2."""
        return _BITS[self]

    @property
    def text_suffix(self) -> str:
        """What follows the hex digits in the text form."""
        return "" if self is Algorithm.SHA1 else f"-{self.value}"

    @classmethod
    def from_bits(cls, bits: int) -> Algorithm:
        """The algorithm of a catalog row. Raises BadFormat for a number that no algorithm has."""
        try:
            return _FROM_BITS[bits]
        except KeyError:
            raise BadFormat(f"{bits} is not the number of a hash algorithm") from None

    def new(self, data: Buffer = b"") -> Hasher:
        """A hasher that was fed ``data``."""
        return _NEW[self](data)

    def digest(self, data: Buffer) -> Digest:
        """The digest of all of ``data``."""
        return Digest(self, _NEW[self](data).digest())


_NEW: dict[Algorithm, Callable[[Buffer], Hasher]] = {
    Algorithm.SHA1: hashlib.sha1,
    Algorithm.RIPEMD160: _ripemd160,
    Algorithm.SHAKE128: _Shake128,
}
_BITS = {Algorithm.SHA1: 0, Algorithm.RIPEMD160: 1, Algorithm.SHAKE128: 2}
_FROM_BITS = {bits: algorithm for algorithm, bits in _BITS.items()}
# Upstream tells the algorithms apart by the length of the text alone.
_BY_LENGTH = {2 * DIGEST_SIZE + len(algorithm.text_suffix): algorithm for algorithm in Algorithm}


class Digest(msgspec.Struct, frozen=True):
    """A hash value that knows its algorithm; ``str()`` gives the text form."""

    algorithm: Algorithm
    raw: bytes

    def __str__(self) -> str:
        return self.raw.hex() + self.algorithm.text_suffix

    @property
    def hex(self) -> str:
        return self.raw.hex()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Reads the text form. Raises BadFormat for anything else, md5 and upper-case digits included."""
        algorithm = _BY_LENGTH.get(len(text))
        digits = text[: 2 * DIGEST_SIZE]
        if algorithm is None or text[2 * DIGEST_SIZE :] != algorithm.text_suffix or not _HEX.issuperset(digits):
            raise BadFormat(f"{text!r} is not a hash")
        return cls(algorithm, bytes.fromhex(digits))


class Suffix(StrEnum):
    """The letter at the end of an object's key; not part of its identity."""

    DATA = ""
    CATALOG = "C"
    HISTORY = "H"
    CERTIFICATE = "X"
    META_INFO = "M"
    PARTIAL = "P"


class ObjectId(msgspec.Struct, frozen=True):
    """The name of an object in a store."""

    digest: Digest
    suffix: Suffix = Suffix.DATA

    @property
    def key(self) -> str:
        """The key below the repository's prefix: ``data/xx/rest``, algorithm and letter included."""
        text = str(self.digest)
        return f"data/{text[:2]}/{text[2:]}{self.suffix.value}"

    @classmethod
    def parse(cls, text: str) -> ObjectId:
        """Reads what ``str()`` gives. Raises BadFormat."""
        letter = text[-1:] if text[-1:].isupper() else ""
        try:
            return cls(Digest.parse(text[: len(text) - len(letter)]), Suffix(letter))
        except ValueError:
            raise BadFormat(f"{text!r} is not the name of an object") from None

    def __str__(self) -> str:
        return f"{self.digest}{self.suffix.value}"
