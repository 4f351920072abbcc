"""The statistics of catalogs: twelve counters of a catalog's own rows, and the same summed over all below it."""

from __future__ import annotations

from collections.abc import Mapping

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
