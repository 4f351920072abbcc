"""Objects of a repository, fetched by flows and verified."""

from __future__ import annotations

from stratus.errors import BadFormat, NotFound
from stratus.formats.catalog import Nested
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry
from stratus.formats.hashes import ObjectId, Suffix
from stratus.repository.layout import Layout
from stratus.repository.objects import missing, verified
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.flows import Flow


def get(
    layout: Layout, object_id: ObjectId, size: int | None = None, compression: Compression = Compression.ZLIB
) -> Flow[bytes]:
    """The plain bytes of an object, as a flow. Raises NotFound, Untrusted."""
    return compression.unpack((yield from _get_stored(layout, object_id)), size)


def _get_stored(layout: Layout, object_id: ObjectId) -> Flow[bytes]:
    try:
        blob = yield from flows.get(layout.object(object_id))
    except NotFound as error:
        raise missing(object_id) from error
    return verified(object_id, blob.data)


def get_recent(layout: Layout, object_id: ObjectId, recent: Recent, size: int | None = None) -> Flow[bytes]:
    """The plain bytes of a catalog or history, from ``recent`` if they are there, and kept there if not."""
    plain = recent.get(object_id, size)
    if plain is None:
        plain = recent.unpack(object_id, (yield from _get_stored(layout, object_id)), size)
    return plain


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


def get_catalog(layout: Layout, nested: Nested, recent: Recent) -> Flow[bytes]:
    """The bytes of the SQLite file of a reference, as a flow."""
    return get_recent(layout, ObjectId(nested.digest, Suffix.CATALOG), recent, nested.size or None)
