"""The statistics of catalogs: twelve counters of a catalog's own rows, and the same summed over all below it."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from typing import Any

from stratus.formats import rows
from stratus.formats.entries import Kind, Row

NAMES = (
    "regular",
    "symlink",
    "special",
    "dir",
    "nested",
    "chunked",
    "chunks",
    "file_size",
    "chunked_size",
    "xattr",
    "external",
    "external_file_size",
)

_SIZE, _MODE, _FLAGS, _XATTR = (rows.COLUMNS.index(name) for name in ("size", "mode", "flags", "xattr"))

Counters = dict[str, int]  # always with all of NAMES


def zero() -> Counters:
    """All twelve, none counted."""
    return dict.fromkeys(NAMES, 0)


def add(to: Counters, counts: Mapping[str, int], sign: int = 1) -> None:
    """Adds ``counts`` (or takes them away with ``sign`` -1)."""
    for name, count in counts.items():
        to[name] += sign * count


def total(own: Mapping[str, int], below: Mapping[str, int]) -> Counters:
    """What a catalog adds to its parent's sub tree: its own rows and all below."""
    return {name: own[name] + below[name] for name in NAMES}


def rows_of(counts: Mapping[str, int]) -> int:
    """How many rows are counted."""
    return counts["regular"] + counts["symlink"] + counts["special"] + counts["dir"]


def tally(to: Counters, row: Row, sign: int = 1) -> None:
    """Counts one row of a catalog; ``nested`` is counted by reference, not by row."""
    entry = row.entry
    if entry.xattrs:
        to["xattr"] += sign
    if entry.kind is Kind.DIRECTORY:
        to["dir"] += sign
    elif entry.kind is Kind.SYMLINK:
        to["symlink"] += sign
    elif entry.kind is not Kind.FILE:
        to["special"] += sign
    else:
        to["regular"] += sign
        to["file_size"] += sign * entry.size
        if entry.content is not None and entry.content.chunks:
            to["chunked"] += sign
            to["chunked_size"] += sign * entry.size
            to["chunks"] += sign * len(entry.content.chunks)
        if entry.content is not None and entry.content.external:
            to["external"] += sign
            to["external_file_size"] += sign * entry.size


def tally_values(to: Counters, found: Iterable[tuple[Any, ...]], chunks: int, sign: int = 1) -> None:
    """Counts rows by the values of their columns (``rows.COLUMNS``); ``chunks`` are the rows of chunks they have."""
    to["chunks"] += sign * chunks
    for values in found:
        size, mode, flags = values[_SIZE], values[_MODE], values[_FLAGS]
        if values[_XATTR] is not None:
            to["xattr"] += sign
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFDIR:
            to["dir"] += sign
        elif kind == stat.S_IFLNK:
            to["symlink"] += sign
        elif kind != stat.S_IFREG:
            to["special"] += sign
        else:
            to["regular"] += sign
            to["file_size"] += sign * size
            if flags & rows.CHUNKED:
                to["chunked"] += sign
                to["chunked_size"] += sign * size
            if flags & rows.EXTERNAL:
                to["external"] += sign
                to["external_file_size"] += sign * size
