"""Rows of a tree, as JSON."""

from __future__ import annotations

from typing import Any

from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Row

KINDS = {
    Kind.DIRECTORY: "directory",
    Kind.FILE: "file",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHARACTER: "character device",
    Kind.BLOCK: "block device",
}


def row_to_json(row: Row) -> dict[str, Any]:
    """Names with surrogate escapes, the mode as four octal digits, attribute values in hexadecimal."""
    entry = row.entry
    return {
        "path": paths.display(entry.path),
        "kind": KINDS[entry.kind],
        "mode": f"{entry.mode:04o}",
        "links": row.links,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        **({"target": entry.target.decode("utf-8", "surrogateescape")} if entry.kind is Kind.SYMLINK else {}),
        **({"rdev": entry.rdev} if entry.rdev else {}),
        **({"xattrs": _xattrs(entry)} if entry.xattrs else {}),
        **({"content": _content(entry)} if entry.content else {}),
    }


def _xattrs(entry: Entry) -> dict[str, str]:
    return {name.decode("utf-8", "surrogateescape"): value.hex() for name, value in entry.xattrs}


def _content(entry: Entry) -> dict[str, Any]:
    content = entry.content
    assert content is not None
    return {
        "hash": None if content.digest is None else str(content.digest),
        "compression": content.compression.name.lower(),
        "chunks": [[chunk.offset, chunk.size, str(chunk.digest)] for chunk in content.chunks],
        "external": content.external,
    }
