"""What one read of a source has yielded so far: keeps hard links together and contradictions out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Xattrs

_MAX_ID = 0xFFFFFFFF
_MAX_XATTR = 255  # bytes of a key or a value, and number of attributes


class Tree:
    """The entries of one source by path; where there are several for a path, the last."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._entries: dict[bytes, Entry] = {}
        self._parents: set[bytes] = set()
        # For every file that has links: the first of its names in each directory.
        self._links: dict[bytes, dict[bytes, bytes]] = {}
        self._last_group = 0

    def put(self, entry: Entry) -> Iterator[Entry]:
        """Yields the entry. Raises BadSource if something that is no directory has entries below it."""
        _check(entry)
        if entry.kind is not Kind.DIRECTORY and entry.path in self._parents:
            raise _contradiction(entry.path)
        above = paths.parent(entry.path)
        while above and above not in self._parents:
            known = self._entries.get(above)
            if known is not None and known.kind is not Kind.DIRECTORY:
                raise _contradiction(above)
            self._parents.add(above)
            above = paths.parent(above)
        self._links.pop(entry.path, None)
        self._entries[entry.path] = entry
        yield entry

    def link(self, path: bytes, target: bytes) -> Iterator[Entry]:
        """Yields what makes ``path`` another name of the entry at ``target``, which must be there.

        Links in one directory get a common group, for which the first may be yielded again; a catalog cannot express
        others, so they become files of their own. Raises BadSource if there is no such entry or it is a directory.
        """
        known = self._entries.get(target)
        if known is None or known.kind is Kind.DIRECTORY:
            what = "is not in the source before it" if known is None else "is a directory"
            raise BadSource(
                f"{paths.display(path)} is a hard link to {paths.display(target)}, which {what}",
                hint="put what is linked to in the same source, or use a symbolic link",
                path=path,
            )
        if path == target:
            return
        if known.kind is not Kind.FILE:
            self._warn(f"{paths.display(path)}: only files can be hard links, published as an entry of its own")
            yield from self.put(replace(known, path=path))
            return
        firsts = self._links.setdefault(target, {paths.parent(target): target})
        if self._links.get(path) is firsts:
            return
        directory = paths.parent(path)
        first = target if paths.parent(target) == directory else firsts.get(directory)
        if first is None or self._links.get(first) is not firsts:
            # There is none, or it has become something else in the meantime.
            firsts[directory] = path
            self._warn(
                f"{paths.display(path)}: a hard link to {paths.display(target)} in another directory, "
                "published as a file of its own"
            )
            yield from self.put(replace(known, path=path, group=0))
        else:
            group = self._entries[first].group
            if not group:
                self._last_group = group = self._last_group + 1
                self._entries[first] = replace(self._entries[first], group=group)
                yield self._entries[first]
            yield from self.put(replace(known, path=path, group=group))
        self._links[path] = firsts


def _contradiction(path: bytes) -> BadSource:
    return BadSource(
        f"{paths.display(path)} is no directory, but the source has entries below it",
        hint="symbolic links are not followed; put the entries where they shall be",
        path=path,
    )


def _check(entry: Entry) -> None:
    """Raises BadSource for what a repository cannot hold."""
    shown = paths.display(entry.path)
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise BadSource(
            f"{shown}: {entry.uid}:{entry.gid} is no owner",
            hint="user and group ids have 32 bits; --owner sets others",
            path=entry.path,
        )
    if not -(1 << 63) <= entry.mtime_ns < 1 << 63:
        raise BadSource(f"{shown}: its last change is out of the range of times", hint="touch it", path=entry.path)
    if entry.kind is Kind.SYMLINK and (not entry.target or b"\0" in entry.target):
        raise BadSource(f"{shown}: a symbolic link without a target", hint="leave it out", path=entry.path)
    if not _fits(entry.xattrs):
        raise BadSource(
            f"{shown}: its extended attributes do not fit",
            hint="at most 255 attributes, with keys and values of at most 255 bytes, can be published",
            path=entry.path,
        )


def _fits(xattrs: Xattrs) -> bool:
    return len(xattrs) <= _MAX_XATTR and all(
        0 < len(key) <= _MAX_XATTR and b"\0" not in key and len(value) <= _MAX_XATTR for key, value in xattrs
    )
