"""What the sources of one publish want to be in the tree: rows by path, the last word on each, sorted by components.

A row is what a catalog would hold (``rows.VALUES``). Contents come later than rows and in another order; they are kept
by number. Memory is bounded, whatever the number of rows; for each directory and each chunked file there is some.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from stratus.catalogs.structure import MARKER
from stratus.errors import Rejected
from stratus.formats import paths, rows
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Kind
from stratus.formats.hashes import DIGEST_SIZE
from stratus.formats.rows import GROUP_SHIFT, LINKS, Chunks, Raw, Values
from stratus.ingest.contract import Body, Draft, Policy
from stratus.ingest.overflow import Overflow

_HELD = 50_000  # rows in memory, half a kilobyte each
_NANO = 1_000_000_000
_DIRECTORY, _FILE, _SYMLINK = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_TYPES = {id(kind): kind.value for kind in Kind}
_NO_CONTENT = -1


class Gathered:
    """The rows of one publish.

    Attributes:
        counts: how often something was put right into a directory.
        marked: directories that have a marker of a nested catalog.
    """

    def __init__(self, policy: Policy) -> None:
        self._rows = Overflow(_HELD)
        self._digests = bytearray()  # by number
        self._odd: dict[int, tuple[int, Content]] = {}  # size and content where the digest alone does not say it
        self._algorithm = policy.algorithm
        self._flags = rows.content_flags(Content(policy.algorithm, None, policy.packing.compression))
        self._empty_flags = rows.content_flags(Content(policy.algorithm, None, Compression.ZLIB))
        self.counts: dict[bytes, int] = {}
        self.marked: set[bytes] = set()
        self._has_groups = False
        self._all: list[Raw] | None = None  # all rows, if they are few, and their keys
        self._keys: list[bytes] = []

    def close(self) -> None:
        self._rows.close()

    def add(self, draft: Draft) -> bool:
        """Takes what is to be at a path; says whether its content is one that was not seen before. Raises Rejected."""
        path, kind, mode, uid, gid, size, mtime_ns, target, rdev, xattrs, group, body = draft
        mtime, mtimens = divmod(mtime_ns, _NANO)
        number, is_new = _NO_CONTENT, False
        if kind is _FILE:
            if body is None:
                raise Rejected(f"{paths.display(path)} is a file without content", reason="no_content", path=path)
            number, size = body.number, body.size
            if number < 0:
                number = body.number = len(self._digests) // DIGEST_SIZE
                self._digests += bytes(DIGEST_SIZE)
                is_new = True
            flags = self._flags if size else self._empty_flags
        elif kind is _DIRECTORY:
            flags = rows.DIRECTORY
        elif kind is _SYMLINK:
            flags, size = rows.FILE | rows.SYMLINK, len(target)
        else:
            flags, size = rows.FILE | rows.SPECIAL, rdev if kind in _DEVICES else 0
        slash = path.rfind(b"/")
        directory, name = path[:slash], path[slash + 1 :]
        links = 1
        if group:
            links |= group << GROUP_SHIFT
            self._has_groups = True
        self.counts[directory] = self.counts.get(directory, 0) + 1
        if name == MARKER:
            self.marked.add(directory)
        self._rows.set(
            path.replace(b"/", b"\0"),  # names hold no NUL: sorts by components
            (
                number,
                links,
                size,
                mode | _TYPES[id(kind)],
                mtime,
                mtimens or None,
                flags,
                name,
                target,
                uid,
                gid,
                rows.pack_xattrs(xattrs, path) if xattrs else None,
            ),
        )
        return is_new

    def finished(self, body: Body) -> None:
        """A body has its content."""
        number, content = body.number, body.content
        assert content is not None
        if content.digest is None or body.changed:
            self._odd[number] = body.size, content
        if content.digest is not None:
            self._digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE] = content.digest.raw
        body.content = None  # of the bodies that are still held, some are many

    def has(self, path: bytes) -> bool:
        return path.replace(b"/", b"\0") in self._rows

    def groups(self) -> dict[tuple[bytes, int], set[bytes]]:
        """The names of the members of hard-link groups, by directory and number."""
        found: dict[tuple[bytes, int], set[bytes]] = {}
        if self._has_groups:
            for path, values, _ in self.rows():
                if values[LINKS] >> GROUP_SHIFT:
                    found.setdefault((paths.parent(path), values[LINKS] >> GROUP_SHIFT), set()).add(paths.name(path))
        return found

    def rows(self, top: bytes = b"") -> Iterator[Raw]:
        """What is at and below ``top``, once all contents are there; nothing may be added any more."""
        if not self._rows.is_held:
            yield from self._read(top)
            return
        if self._all is None:
            self._all = list(self._read(b""))
        if not top:
            yield from self._all
            return
        if not self._keys:
            self._keys = [path.replace(b"/", b"\0") for path, _, _ in self._all]
        key = top.replace(b"/", b"\0")
        yield from self._all[bisect_left(self._keys, key) : bisect_left(self._keys, key + b"\1")]

    def _read(self, top: bytes) -> Iterator[Raw]:
        digests, odd = self._digests, self._odd
        top_key = top.replace(b"/", b"\0")
        for key, record in self._rows.items(top_key, top_key + b"\1"):
            path = key.replace(b"\0", b"/")
            number = record[0]
            if number < 0:
                yield path, (record[1], None, *record[2:]), ()
            elif number in odd:
                yield path, *self._odd_row(record)
            else:
                digest = bytes(digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE])
                yield path, (record[1], digest, *record[2:]), ()

    def _odd_row(self, record: Values) -> tuple[Values, Chunks]:
        size, content = self._odd[record[0]]
        raw = None if content.digest is None else content.digest.raw
        values = (record[1], raw, size, *record[3:6], rows.content_flags(content), *record[7:])
        return values, tuple((chunk.offset, chunk.size, chunk.digest.raw) for chunk in content.chunks)
