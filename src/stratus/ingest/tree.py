"""What one scan of a source has yielded so far: keeps hard links together and contradictions out."""

from __future__ import annotations

import marshal

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.formats.entries import Kind, Xattrs
from stratus.ingest.contract import Body, Draft, Warn
from stratus.ingest.overflow import Overflow

_HELD = 50_000  # drafts in memory, half a kilobyte each
_MAX_ID = 0xFFFFFFFF
_MAX_XATTR = 255  # bytes of a key or a value, and number of attributes


class Tree:
    """The drafts of one source by path; where there are several for a path, the last.

    As many as fit are held as they are; of the others, the bodies are known by their numbers alone.
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._drafts = Overflow(_HELD, _pack, _unpack)
        self._parents: set[bytes] = {b""}
        # For every file that has links: the first of its names in each directory.
        self._links: dict[bytes, dict[bytes, bytes]] = {}
        self._last_group = 0

    def close(self) -> None:
        self._drafts.close()

    def put(self, draft: Draft) -> Draft:
        """The draft itself. Raises BadSource if something that is no directory has entries below it."""
        path = draft.path
        check(draft)
        if draft.kind is not Kind.DIRECTORY and path in self._parents:
            raise _contradiction(path)
        above = path[: path.rfind(b"/")]
        while above not in self._parents:
            known: Draft | None = self._drafts.get(above)
            if known is not None and known.kind is not Kind.DIRECTORY:
                raise _contradiction(above)
            self._parents.add(above)
            above = paths.parent(above)
        if self._links:
            self._links.pop(path, None)
        self._drafts.set(path, draft)
        return draft

    def link(self, path: bytes, target: bytes) -> list[Draft]:
        """What makes ``path`` another name of the entry at ``target``, which must be there.

        Links in one directory get a common group, for which the first may come again; a catalog cannot express
        others, so they become files of their own. Raises BadSource if there is no such entry or it is a directory.
        """
        known: Draft | None = self._drafts.get(target)
        if known is None or known.kind is Kind.DIRECTORY:
            what = "is not in the source before it" if known is None else "is a directory"
            raise BadSource(
                f"{paths.display(path)} is a hard link to {paths.display(target)}, which {what}",
                hint="put what is linked to in the same source, or use a symbolic link",
                path=path,
            )
        if path == target:
            return []
        if known.kind is not Kind.FILE:
            self._warn(f"{paths.display(path)}: only files can be hard links, published as an entry of its own")
            return [self.put(known._replace(path=path))]
        firsts = self._links.setdefault(target, {paths.parent(target): target})
        if self._links.get(path) is firsts:
            return []
        directory = paths.parent(path)
        first = target if paths.parent(target) == directory else firsts.get(directory)
        made: list[Draft] = []
        if first is None or self._links.get(first) is not firsts:
            # There is none, or it has become something else in the meantime.
            firsts[directory] = path
            self._warn(
                f"{paths.display(path)}: a hard link to {paths.display(target)} in another directory, "
                "published as a file of its own"
            )
            made.append(self.put(known._replace(path=path, group=0)))
        else:
            of_group: Draft = self._drafts.get(first)
            group = of_group.group
            if not group:
                self._last_group = group = self._last_group + 1
                made.append(of_group._replace(group=group))
                self._drafts.set(first, made[0])
            made.append(self.put(known._replace(path=path, group=group)))
        self._links[path] = firsts
        return made


def _pack(draft: Draft) -> bytes:
    body = draft.body
    kept = None if body is None else (body.number, body.size)
    return marshal.dumps((draft.path, draft.kind.value, *draft[2:-1], kept))


def _unpack(data: bytes) -> Draft:
    path, kind, mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group, kept = marshal.loads(data)
    # Whoever collects contents has counted this one, so its bytes are not asked for.
    body = None if kept is None else Body(b"", kept[1], number=kept[0])
    return Draft(path, Kind(kind), mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group, body)


def _contradiction(path: bytes) -> BadSource:
    return BadSource(
        f"{paths.display(path)} is no directory, but the source has entries below it",
        hint="symbolic links are not followed; put the entries where they shall be",
        path=path,
    )


def check(draft: Draft) -> None:
    """Raises BadSource for what a repository cannot hold."""
    _, kind, _, uid, gid, _, mtime_ns, target, _, xattrs, _, _ = draft
    if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
        raise BadSource(
            f"{paths.display(draft.path)}: {uid}:{gid} is no owner",
            hint="user and group ids have 32 bits; --owner sets others",
            path=draft.path,
        )
    if not -(1 << 63) <= mtime_ns < 1 << 63:
        raise BadSource(
            f"{paths.display(draft.path)}: its last change is out of the range of times",
            hint="touch it",
            path=draft.path,
        )
    if kind is Kind.SYMLINK and (not target or b"\0" in target):
        raise BadSource(
            f"{paths.display(draft.path)}: a symbolic link without a target", hint="leave it out", path=draft.path
        )
    if xattrs and not _fits(xattrs):
        raise BadSource(
            f"{paths.display(draft.path)}: its extended attributes do not fit",
            hint="at most 255 attributes, with keys and values of at most 255 bytes, can be published",
            path=draft.path,
        )


def _fits(xattrs: Xattrs) -> bool:
    return len(xattrs) <= _MAX_XATTR and all(
        0 < len(key) <= _MAX_XATTR and b"\0" not in key and len(value) <= _MAX_XATTR for key, value in xattrs
    )
