"""What a writer that lives longer than one commit need not fetch again."""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

from stratus.formats.hashes import Digest, ObjectId
from stratus.stores.contract import Version

_MOST = 64 << 20  # bytes


class StoredReflog(msgspec.Struct, frozen=True):
    """A reflog as it is in the store; ``digest`` is the hash of ``data``."""

    digest: Digest
    data: bytes
    version: Version


class Recent:
    """Catalogs and histories as they are stored, verified, the last ones that were used; and the last reflog.

    Thread-safe. Objects never change, and the reflog is used only while the manifest names it; so nothing here goes
    stale.
    """

    def __init__(self, most: int = _MOST) -> None:
        """``most`` is how many bytes of objects are kept."""
        self._most = most
        self._lock = threading.Lock()
        self._objects: OrderedDict[ObjectId, bytes] = OrderedDict()
        self._size = 0
        self.reflog: StoredReflog | None = None

    def get(self, object_id: ObjectId) -> bytes | None:
        """The stored bytes, if they are here."""
        with self._lock:
            stored = self._objects.get(object_id)
            if stored is not None:
                self._objects.move_to_end(object_id)
            return stored

    def keep(self, object_id: ObjectId, stored: bytes) -> None:
        """Keeps the stored bytes of an object, which were verified, or made here."""
        with self._lock:
            self._size -= len(self._objects.pop(object_id, b""))
            self._objects[object_id] = stored
            self._size += len(stored)
            while self._size > self._most:
                self._size -= len(self._objects.popitem(last=False)[1])
