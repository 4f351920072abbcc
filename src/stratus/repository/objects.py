"""Objects of a repository: fetched and verified, so that nothing else has to ask whether bytes are what they claim."""

from __future__ import annotations

from stratus.errors import BadFormat, BadHash, NotFound
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry
from stratus.formats.hashes import ObjectId, Suffix
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Flow


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

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    def fetch(self, object_id: ObjectId, compression: Compression = Compression.ZLIB, size: int | None = None) -> bytes:
        """The plain bytes; ``size`` is theirs, where it is known. Raises NotFound, Untrusted, StoreError."""
        return unpacked(object_id, self._get(object_id), compression, size)

    def catalog(self, nested: Nested) -> Catalog:
        """The catalog of a reference; a ``size`` of 0 means that it is not known."""
        data = self.fetch(ObjectId(nested.digest, Suffix.CATALOG), size=nested.size or None)
        return Catalog.parse(data)

    def _get(self, object_id: ObjectId) -> bytes:
        try:
            return self._store.get(self._layout.object(object_id)).data
        except NotFound as error:
            raise missing(object_id) from error


def get(
    layout: Layout, object_id: ObjectId, size: int | None = None, compression: Compression = Compression.ZLIB
) -> Flow[bytes]:
    """The plain bytes of an object, as a flow. Raises NotFound, Untrusted."""
    try:
        blob = yield from flows.get(layout.object(object_id))
    except NotFound as error:
        raise missing(object_id) from error
    return unpacked(object_id, blob.data, compression, size)


def get_content(layout: Layout, entry: Entry) -> Flow[bytes]:
    """The bytes of a regular file, as a flow. Raises NotFound, Untrusted."""
    content = entry.content
    if content is None or content.external:
        raise BadFormat("the file's data are not in the repository", path=entry.path)
    if not content.chunks and content.digest is not None:
        return (yield from get(layout, ObjectId(content.digest), entry.size, content.compression))
    pieces = [
        get(layout, ObjectId(chunk.digest, Suffix.PARTIAL), chunk.size, content.compression) for chunk in content.chunks
    ]
    return b"".join((yield from flows.together(pieces)))


def get_catalog(layout: Layout, nested: Nested) -> Flow[bytes]:
    """The bytes of the SQLite file of a reference, as a flow."""
    return get(layout, ObjectId(nested.digest, Suffix.CATALOG), nested.size or None)


def missing(object_id: ObjectId) -> NotFound:
    """The error for an object that is not in the store though something names it."""
    return NotFound(
        f"object {object_id} is not in the store", hint="`stratus check` lists all that is missing from the repository"
    )
