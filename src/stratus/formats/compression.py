"""How objects are stored: one complete zlib stream, or as they are.

The name of an object is the hash of what is stored, so the deflater matters: classic zlib at its default level gives
the very names that the stock tools give. Certificate, meta-info and history objects must be classic zlib whatever the
policy, since replicas deflate them again. ``fast`` writes streams that every zlib reads, seven times as fast and a
twentieth larger.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import TYPE_CHECKING

import deflate
from isal import isal_zlib

from stratus.errors import BadFormat

if TYPE_CHECKING:
    from typing_extensions import Buffer


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


class Packing(Enum):
    """How new objects are made; the value is the name in settings. Readers only need the ``compression``."""

    FAST = "fast"
    UPSTREAM = "upstream"  # the stock tools' names
    NONE = "none"

    @property
    def compression(self) -> Compression:
        """What rows say of it."""
        return Compression.NONE if self is Packing.NONE else Compression.ZLIB

    def pack(self, plain: Buffer) -> bytes:
        """What is stored for ``plain``."""
        return deflate_fast(plain) if self is Packing.FAST else self.compression.pack(plain)


def deflate_fast(plain: Buffer) -> bytes:
    """A zlib stream, the same in every process: libdeflate for small inputs, ISA-L for others.

    For small inputs the stream of ISA-L (2.31) was measured to differ from process to process, for one in some
    thousand; why is not proven. There libdeflate is as fast.
    """
    if memoryview(plain).nbytes < _SMALL:
        return bytes(deflate.zlib_compress(plain, _SMALL_LEVEL))
    return isal_zlib.compress(plain, _LARGE_LEVEL)


_SMALL = 16 << 10  # bytes
_SMALL_LEVEL = 1  # 140 MB/s
_LARGE_LEVEL = 2  # as fast as 1 (300 MB/s), slightly smaller
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
