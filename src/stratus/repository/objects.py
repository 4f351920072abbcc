"""Objects of a repository: fetched and verified, so that nothing else has to ask whether bytes are what they claim."""

from __future__ import annotations

from stratus.errors import BadHash, NotFound
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId, Suffix
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores.contract import Store


def verified(object_id: ObjectId, stored: bytes) -> bytes:
    """``stored`` itself. Raises BadHash if it is not the object."""
    if object_id.digest.algorithm.digest(stored) != object_id.digest:
        raise BadHash(f"object {object_id} is damaged: its {len(stored)} bytes hash to something else")
    return stored


def unpacked(
    object_id: ObjectId, stored: bytes, compression: Compression = Compression.ZLIB, size: int | None = None
) -> bytes:
    """The plain bytes of a stored object. Raises BadHash, BadFormat."""
    return compression.unpack(verified(object_id, stored), size)


class Objects:
    """The objects of one repository in a store; thread-safe."""

    def __init__(self, store: Store, layout: Layout, recent: Recent | None = None) -> None:
        """Catalogs that ``recent`` has are not fetched, others are kept there."""
        self._store = store
        self._layout = layout
        self._recent = recent

    def fetch(self, object_id: ObjectId, compression: Compression = Compression.ZLIB, size: int | None = None) -> bytes:
        """The plain bytes; ``size`` is theirs, where it is known. Raises NotFound, Untrusted, StoreError."""
        return unpacked(object_id, self._get(object_id), compression, size)

    def catalog(self, nested: Nested) -> Catalog:
        """The catalog of a reference; a ``size`` of 0 means that it is not known."""
        object_id = ObjectId(nested.digest, Suffix.CATALOG)
        size, recent = nested.size or None, self._recent
        plain = None if recent is None else recent.get(object_id, size)
        if plain is None:
            stored = verified(object_id, self._get(object_id))
            plain = Compression.ZLIB.unpack(stored, size) if recent is None else recent.unpack(object_id, stored, size)
        return Catalog.parse(plain)

    def _get(self, object_id: ObjectId) -> bytes:
        try:
            return self._store.get(self._layout.object(object_id)).data
        except NotFound as error:
            raise missing(object_id) from error


def missing(object_id: ObjectId) -> NotFound:
    """The error for an object that is not in the store though something names it."""
    return NotFound(
        f"object {object_id} is not in the store", hint="`stratus check` lists all that is missing from the repository"
    )
