"""How objects are stored: one complete zlib stream, or as they are.

The name of an object is the hash of what is stored, so the deflater matters: classic zlib at its default level gives
the very names that the stock tools give. Certificate, meta-info and history objects must be classic zlib whatever the
policy, since replicas deflate them again. ``fast`` writes streams that every zlib reads, seven times as fast and a
twentieth larger.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import TYPE_CHECKING, cast

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
    """A zlib stream by ISA-L, the same in every process and thread.

    ISA-L alone is not: where it starts without history (``.write_first_byte`` of igzip_icf_body_h1_gr_bt.asm, levels
    1 and 2, at least up to 2.31.1), it enters the third position of the input under the hash of a register that still
    holds the address of the stream's state, shifted by 16 bits, instead of the hash of the bytes. If that happens to
    be where the first position is, a later match with the start of the input is lost: for one input in some thousand,
    more often for small ones, whose hash tables are small.

    With a dictionary it starts with history, by another way that reads the input only. So the first byte is a stored
    block of its own, and then the dictionary for all others: whatever is matched with it is in the stream.
    """
    view = memoryview(plain).cast("B")
    if not view:
        return zlib.compress(b"")
    first = view[:1]
    level = _SMALL_LEVEL if len(view) < _SMALL else _LARGE_LEVEL
    rest = isal_zlib.compressobj(level, *_RAW, first)
    checksum = isal_zlib.adler32(view).to_bytes(4, "big")
    return b"".join((_HEADER, _ONE_STORED_BYTE, first, rest.compress(view[1:]), rest.flush(), checksum))


_SMALL = 8 << 10  # bytes
_SMALL_LEVEL = 1  # its hash table is smaller, thus cleared in less time
_LARGE_LEVEL = 2  # as fast as 1 (300 MB/s), slightly smaller
_RAW = (zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY)
_HEADER = b"\x78\x5e"  # RFC 1950: deflate, a window of 32 KiB, fast, no dictionary
_ONE_STORED_BYTE = b"\x00\x01\x00\xfe\xff"  # RFC 1951, 3.2.4: not the last block, stored; its size and the complement
_InflateError = cast("type[Exception]", isal_zlib.error)  # the stub takes it for an instance
_FROM_BITS = {compression.value: compression for compression in Compression}


def _inflate(stored: bytes, size: int | None) -> bytes:
    stream = isal_zlib.decompressobj()  # twice as fast as zlib where there is much
    try:
        # One byte more than expected, so that a stream that is too long is told from one that fits.
        plain = stream.decompress(stored, 0 if size is None else size + 1)
    except _InflateError as error:
        raise BadFormat(f"not a zlib stream: {error}") from error
    if size is not None and len(plain) > size:
        raise BadFormat(f"an object holds more than the {size} bytes that are expected")
    if not stream.eof or stream.unused_data:
        raise BadFormat("a zlib stream that is cut off or has a tail")
    return plain
