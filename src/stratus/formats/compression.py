"""How objects are stored: one complete zlib stream, or as they are.

The name of an object is the hash of what is stored, so the deflater matters: classic zlib at its default level gives
the very names that the stock tools give. Certificate and meta-info objects must be classic zlib whatever the policy,
since replicas deflate them again.
"""

from __future__ import annotations

import zlib
from enum import Enum

from typing_extensions import Buffer

from stratus.errors import BadFormat


class Compression(Enum):
    """The compression of a file's objects; the value is the number in catalog flags."""

    ZLIB = 0
    NONE = 1

    @classmethod
    def from_bits(cls, bits: int) -> Compression:
        """The compression of a catalog row. Raises BadFormat for a number that is not known."""
        try:
            return _FROM_BITS[bits]
        except KeyError:
            raise BadFormat(f"{bits} is not the number of a compression") from None

    def pack(self, plain: Buffer) -> bytes:
        """What is stored for ``plain``."""
        return zlib.compress(plain) if self is Compression.ZLIB else bytes(plain)

    def unpack(self, stored: bytes, size: int | None = None) -> bytes:
        """What ``stored`` holds. ``size`` in bytes, where it is known, bounds what a lying stream may cost.

        Raises BadFormat if ``stored`` is no complete stream, has a tail, or does not have ``size`` bytes.
        """
        plain = stored if self is Compression.NONE else _inflate(stored, size)
        if size is not None and len(plain) != size:
            raise BadFormat(f"an object holds {len(plain)} bytes where {size} are expected")
        return plain


_FROM_BITS = {compression.value: compression for compression in Compression}


def _inflate(stored: bytes, size: int | None) -> bytes:
    stream = zlib.decompressobj()
    try:
        # One byte more than expected, so that a stream that is too long is told from one that fits.
        plain = stream.decompress(stored, 0 if size is None else size + 1)
    except zlib.error as error:
        raise BadFormat(f"not a zlib stream: {error}") from error
    if size is not None and len(plain) > size:
        raise BadFormat(f"an object holds more than the {size} bytes that are expected")
    if not stream.eof or stream.unused_data:
        raise BadFormat("a zlib stream that is cut off or has a tail")
    return plain
