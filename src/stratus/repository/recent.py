"""What a writer that lives longer than one commit need not fetch again."""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId
from stratus.stores.contract import Version

_MOST = 64 << 20  # bytes as they are stored
_MOST_PLAIN = 32 << 20  # bytes of those that were used last, unpacked


class StoredReflog(msgspec.Struct, frozen=True):
    """A reflog as it is in the store; ``digest`` is the hash of ``data``."""

    digest: Digest
    data: bytes
    version: Version


class Recent:
    """Catalogs and histories, verified, the last ones that were used; and the last reflog.

    They are kept as they are stored, since many fit into memory so, and the very last ones unpacked as well.

    Thread-safe. Objects never change, and the reflog is used only while the manifest names it; so nothing here goes
    stale.
    """

    def __init__(self, most: int = _MOST, most_plain: int = _MOST_PLAIN) -> None:
        """How many bytes are kept, as they are stored, and unpacked."""
        self._lock = threading.Lock()
        self._stored = _Kept(most)
        self._plain = _Kept(most_plain)
        self.reflog: StoredReflog | None = None

    def get(self, object_id: ObjectId, size: int | None = None) -> bytes | None:
        """The plain bytes, if they are here. Raises BadFormat if there are not ``size``."""
        with self._lock:
            plain, stored = self._plain.get(object_id), self._stored.get(object_id)
        if plain is not None:
            return Compression.NONE.unpack(plain, size)
        return None if stored is None else self.unpack(object_id, stored, size)

    def unpack(self, object_id: ObjectId, stored: bytes, size: int | None = None) -> bytes:
        """Keeps an object, as ``keep`` does, and gives its plain bytes. Raises BadFormat if there are not ``size``."""
        plain = Compression.ZLIB.unpack(stored, size)
        self.keep(object_id, stored, plain)
        return plain

    def keep(self, object_id: ObjectId, stored: bytes, plain: bytes | None = None) -> None:
        """Keeps the stored bytes of an object, which were verified, or made here; unpacked, too, if they are given."""
        with self._lock:
            self._stored.keep(object_id, stored)
            if plain is not None:
                self._plain.keep(object_id, plain)


class _Kept:
    """The last ones that were used, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._found: OrderedDict[ObjectId, bytes] = OrderedDict()

    def get(self, object_id: ObjectId) -> bytes | None:
        found = self._found.get(object_id)
        if found is not None:
            self._found.move_to_end(object_id)
        return found

    def keep(self, object_id: ObjectId, data: bytes) -> None:
        self._size += len(data) - len(self._found.pop(object_id, b""))
        self._found[object_id] = data
        while self._size > self._most:
            self._size -= len(self._found.popitem(last=False)[1])
