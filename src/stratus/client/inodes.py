"""Inode numbers, and the nodes that the kernel knows.

Two numbers, since a mount follows its repository. The *inode* is what ``stat`` shows. It is made of the path's hash, so
that it is the same at every look-up, in every revision and in every mount: ``find``, ``tar`` and ``git`` take a changed
one for another file. Hard links share that of their group. It has 48 bits: overlayfs wants some of the upper ones for
itself. The *node* is what the kernel calls it, and what the kernel keeps pages for. When a new revision has other data
at a path, that is another node: whoever has the old one open or mapped goes on with the old data, and pages of the two
never mix. Nodes are numbered as they come, and no number is used twice.
"""

from __future__ import annotations

import errno
import itertools
import threading

import msgspec

from stratus.client.fuse.protocol import ROOT
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Row

_MASK = (1 << 48) - 1


class Node(msgspec.Struct):
    """A row that the kernel knows by number; ``lookups`` is how often it was told."""

    number: int
    inode: int
    key: bytes
    row: Row
    lookups: int = 0


def inode_of(entry: Entry) -> int:
    """What ``stat`` and listings show."""
    return _hashed(_key(entry))


def same_data(one: Entry, other: Entry) -> bool:
    """Whether two entries of one path may be one node: attributes may differ, nothing else that the kernel caches."""
    if one.kind is not other.kind:
        return False
    if one.kind is Kind.DIRECTORY:
        return True
    return (one.group, one.size, one.target, one.rdev, one.content) == (
        other.group,
        other.size,
        other.target,
        other.rdev,
        other.content,
    )


class InodeTable:
    """The nodes that the kernel knows; thread-safe. The root is known for ever."""

    def __init__(self, root: Row) -> None:
        node = Node(ROOT, ROOT, b"", root)
        self._by_number = {ROOT: node}
        self._by_key = {b"": node}  # the newest node of every key
        self._numbers = itertools.count(ROOT + 1)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Node:
        """Raises ESTALE for a number that the kernel was not told, or forgot."""
        try:
            return self._by_number[number]
        except KeyError:
            raise OSError(errno.ESTALE, "unknown node") from None

    def directory(self, path: bytes) -> Node | None:
        """The node of a directory, if the kernel knows it."""
        return self._by_key.get(path)

    def nodes(self) -> list[Node]:
        """All that are known at the moment."""
        with self._lock:
            return list(self._by_number.values())

    def look_up(self, row: Row) -> Node:
        """The node of a row of the newest tree, which the kernel is about to be told once more."""
        key = _key(row.entry)
        with self._lock:
            node = self._by_key.get(key)
            if node is None or not same_data(node.row.entry, row.entry):
                node = Node(next(self._numbers), _hashed(key), key, row)
                self._by_key[key] = self._by_number[node.number] = node
            else:
                node.row = row
            node.lookups += 1
            return node

    def forget(self, number: int, lookups: int) -> None:
        """The kernel takes back that many look-ups; with the last one the node goes."""
        with self._lock:
            node = self._by_number.get(number)
            if node is None or number == ROOT:
                return
            node.lookups -= lookups
            if node.lookups <= 0:
                del self._by_number[number]
                if self._by_key.get(node.key) is node:
                    del self._by_key[node.key]


def _key(entry: Entry) -> bytes:
    """What has one inode: the path, or the directory and group of hard links (no path has an empty component)."""
    return entry.path if entry.group == 0 else b"%s//%d" % (paths.parent(entry.path), entry.group)


def _hashed(key: bytes) -> int:
    """At least 2, but for the root: 0 means that there is no inode, 1 is the root."""
    return max(paths.md5_halves(key)[0] & _MASK, ROOT + 1) if key else ROOT
