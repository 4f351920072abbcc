"""Extended attributes: those of the row, and the magic ones that tell about the mount and the file's objects.

The names and forms are those of the stock client. Magic attributes can be read by name everywhere, but are listed at
the root only, so that copying a tree with its attributes does not copy them. A name may end in ``~N`` (that page of a
long value), ``@N`` (the same with a line for people) or ``~?`` (how many pages there are). User attributes of symlinks
are hidden by the kernel; there ``xfsroot.rawlink`` works.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

import msgspec

from stratus._version import __version__
from stratus.catalogs.tree import Mounted
from stratus.formats import counters
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind
from stratus.formats.hashes import Digest

Live = Mapping[str, Callable[[], str]]
"""Attributes of the mount by name without ``user.``, computed whenever they are read."""

_PAGE = 40_000  # characters after which a chunk list goes to the next page, as upstream
_CHUNK_HEADER = "hash,offset,size\n"
_PAGED = re.compile(rb"(.+)([~@])(\?|[0-9]+)")
_COMPRESSION = {Compression.ZLIB: "zlib", Compression.NONE: "none"}
_CATALOG_COUNTERS = b"user.catalog_counters"


class Facts(msgspec.Struct, frozen=True):
    """What a mount knows of the revision that it shows.

    Attributes:
        root_hash: of the root catalog.
        host: the store's URL.
        tag: the tag that was mounted, if one was.
    """

    fqrn: str
    revision: int
    root_hash: Digest
    host: str = ""
    tag: str = ""

    def attributes(self) -> dict[str, str]:
        """By name without ``user.``."""
        return {
            "fqrn": self.fqrn,
            "revision": str(self.revision),
            "root_hash": str(self.root_hash),
            "tag": self.tag,
            "host": self.host,
            "host_list": self.host,
            "version": __version__,
            "pid": str(os.getpid()),
        }


class MagicXattrs:
    """The magic attributes of one mount."""

    def __init__(self, live: Live) -> None:
        self._mount = {f"user.{name}".encode(): read for name, read in live.items()}

    def get(self, entry: Entry, name: bytes, catalog: Mounted | None = None) -> bytes | None:
        """The value of an attribute, magic or the entry's own; None if it has none of this name.

        ``catalog`` is the one that the entry is in, or at; only what ``wants_catalog`` needs it.
        """
        pages = self._pages(entry, name, catalog)
        if pages is not None:
            return os.fsencode(pages[0]) if pages else None
        for own, value in entry.xattrs:
            if own == name:
                return value
        match = _PAGED.fullmatch(name)
        pages = None if match is None else self._pages(entry, match[1], catalog)
        return _page(pages, match[2], match[3]) if pages and match is not None else None

    def names(self, entry: Entry) -> list[bytes]:
        """The names that a listing shows."""
        magic = sorted([*self._mount, _CATALOG_COUNTERS]) if entry.path == b"" else []
        return magic + [name for name, _ in entry.xattrs if name not in magic]

    def _pages(self, entry: Entry, name: bytes, catalog: Mounted | None) -> list[str] | None:
        """The pages of a magic attribute, none if the entry does not have it; None if the name is not magic."""
        if name in self._mount:
            return [self._mount[name]()]
        if name == _CATALOG_COUNTERS:
            return [] if catalog is None else [_catalog_counters(catalog)]
        if name in _FILE:
            return [] if entry.content is None else _FILE[name](entry, entry.content)
        if name in (b"user.rawlink", b"xfsroot.rawlink"):
            return [os.fsdecode(entry.target)] if entry.kind is Kind.SYMLINK else []
        return None


def wants_catalog(name: bytes) -> bool:
    """Whether the attribute tells about the catalog that an entry is in."""
    return name.startswith(_CATALOG_COUNTERS)


def repository_counters(root: Mounted) -> str:
    """``name,value`` lines, sorted, of all that is at and below a catalog."""
    total = counters.total(root.catalog.own, root.catalog.below)
    return "".join(f"{name},{total[name]}\n" for name in sorted(total))


def _catalog_counters(catalog: Mounted) -> str:
    place = os.fsdecode(catalog.path)
    return f"catalog_hash: {catalog.at.digest}\ncatalog_mountpoint: {place}\n{repository_counters(catalog)}"


def _page(pages: list[str], mode: bytes, which: bytes) -> bytes | None:
    """One page, or about them: ``~`` is for machines, ``@`` for people."""
    count = len(pages)
    if which == b"?":
        return f"num_pages, {count}".encode() if mode == b"~" else f"Pages available: {count}".encode()
    index = int(which)
    if index >= count:
        return None
    head = "" if mode == b"~" else f"# Access page at idx: {index}. Total num pages: {count}\n"
    return os.fsencode(head + pages[index])


def _chunk_list(entry: Entry, content: Content) -> list[str]:
    whole = () if content.digest is None else (Chunk(0, entry.size, content.digest),)
    pages, page = [], _CHUNK_HEADER
    for chunk in content.chunks or whole:
        page += f"{chunk.digest},{chunk.offset},{chunk.size}\n"
        if len(page) > _PAGE:
            pages.append(page)
            page = _CHUNK_HEADER
    return pages if page == _CHUNK_HEADER else [*pages, page]


_FILE: dict[bytes, Callable[[Entry, Content], list[str]]] = {
    b"user.hash": lambda entry, content: [] if content.digest is None else [str(content.digest)],
    b"user.chunks": lambda entry, content: [str(len(content.chunks) or 1)],
    b"user.chunk_list": _chunk_list,
    b"user.compression": lambda entry, content: [_COMPRESSION[content.compression]],
    b"user.direct_io": lambda entry, content: [str(int(content.direct_io))],
    b"user.external_file": lambda entry, content: [str(int(content.external))],
}
