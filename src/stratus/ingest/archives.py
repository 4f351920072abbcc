"""Tar archives as sources: read once from front to back, so that a pipe will do.

Understood are the old, POSIX, GNU and pax forms, sparse files among them, plain or compressed; the compression is told
by the first bytes. Names and link targets are bytes throughout.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import io
import lzma
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Xattrs
from stratus.ingest.content import BLOCK_SIZE, Packer
from stratus.ingest.contract import DIRECTORY_SIZE, NewObject, Placement, Policy
from stratus.ingest.tree import Tree

_KINDS = {
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.FIFOTYPE: Kind.FIFO,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
}
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_EXTENDED_HEADER = 16 << 20  # bytes; they are held in memory
_XATTR = "SCHILY.xattr."
_SECONDS = re.compile(r"(-?)(\d{1,19})(?:\.(\d*))?")
_NANO = 1_000_000_000
_FORMATS = "tar archives, plain or compressed by gzip, bzip2, xz or zstd"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive in a file, or on standard input (``file`` None), which can be read once."""

    file: Path | None

    @property
    def name(self) -> str:
        return "standard input" if self.file is None else str(self.file)

    def read(self, policy: Policy, placement: Placement, warn: Callable[[str], None]) -> Iterator[NewObject | Entry]:
        """As the contract says. Raises BadSource for what is damaged, cut off, or no archive at all."""
        with contextlib.ExitStack() as stack:
            if self.file is None:
                raw: IO[bytes] = sys.stdin.buffer
            else:
                try:
                    raw = stack.enter_context(self.file.open("rb"))
                except OSError as error:
                    raise BadSource(
                        f"{self.name} cannot be read: {error.strerror}", hint="check its permissions"
                    ) from error
            yield from _Reading(self.name, policy, placement, warn).run(raw)


class _Header(tarfile.TarInfo):
    """A member's header. What tarfile would take for the end of the archive is an error unless it is the end marker."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED_HEADERS and header.size > _MAX_EXTENDED_HEADER):
            raise tarfile.HeaderError(f"a header of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        try:
            header = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if header.size < 0:
            raise tarfile.ReadError(f"a member of {header.size} bytes")
        return header


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were looked at, as if they had not been."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _Prompt(io.RawIOBase):
    """A stream whose reads give what there is, so that it is not lost if what follows is damaged."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto1(buffer)


class _Reading:
    def __init__(self, name: str, policy: Policy, placement: Placement, warn: Callable[[str], None]) -> None:
        self._name = name
        self._policy = policy
        self._placement = placement
        self._warn = warn
        self._packer = Packer(policy)
        self._tree = Tree(warn)
        self._last: str | None = None  # the last member that was read whole

    def run(self, raw: IO[bytes]) -> Iterator[NewObject | Entry]:
        stream = self._guard(lambda: _decompressed(raw))
        with contextlib.closing(stream), self._guard(lambda: self._open(stream)) as archive:
            while (member := self._guard(archive.next)) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep them all
                yield from self._member(archive, member)
                self._last = member.name
            self._finish(archive)

    def _open(self, stream: io.BufferedIOBase) -> tarfile.TarFile:
        try:
            return tarfile.open(
                fileobj=_Prompt(stream),
                mode="r|",
                bufsize=BLOCK_SIZE,
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except tarfile.ReadError as error:
            raise BadSource(f"{self._name} is not an archive: {error}", hint=f"understood are {_FORMATS}") from error

    def _finish(self, archive: tarfile.TarFile) -> None:
        """Reads what follows the end marker: padding, and the check sum of a compressed stream."""
        rest = archive.fileobj
        assert rest is not None
        if self._guard(lambda: rest.read(tarfile.BLOCKSIZE)).strip(b"\0"):
            raise self._damaged("a header of zeros")  # the end marker is two of them
        is_padding = True
        while block := self._guard(lambda: rest.read(BLOCK_SIZE)):
            is_padding = is_padding and not block.strip(b"\0")
        if not is_padding:
            self._warn(f"{self._name}: what follows the end of the archive is left out")

    def _guard(self, step: Callable[[], T]) -> T:
        """What ``step`` gives. Raises BadSource for whatever it raises: damage comes as any exception there is."""
        try:
            return step()
        except BadSource:
            raise
        except Exception as error:
            raise self._damaged(str(error) or type(error).__name__) from error

    def _damaged(self, reason: str) -> BadSource:
        where = "before its first member ends" if self._last is None else f"after {_shown(self._last)}"
        return BadSource(
            f"{self._name} is damaged or cut off {where}: {reason}", hint="make or download the archive again"
        )

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[NewObject | Entry]:
        parts = _components(member.name, member)
        kind = Kind.FILE if member.isreg() else _KINDS.get(member.type)
        if kind is None and not member.islnk():
            self._warn(f"{_shown(member.name)}: a member of unknown type {member.type!r}, left out")
            return
        if not parts and kind is not Kind.DIRECTORY:
            raise _bad_member(member, "takes the place of the top directory")
        path = self._placement.land(parts)
        if path is None:
            if kind is not Kind.DIRECTORY:
                self._warn(f"{_shown(member.name)}: no more than the components to strip, left out")
        elif kind is None:
            target = self._placement.land(_components(member.linkname, member))
            if target is None:
                raise _bad_member(member, f"is a hard link to {_shown(member.linkname)}, which is left out")
            yield from self._tree.link(path, target)
        elif kind is Kind.FILE:
            content, size = yield from self._packer.add(self._blocks(archive, member))
            yield from self._tree.put(self._entry(path, kind, member, size=size, content=content))
        elif kind is Kind.SYMLINK:
            target = _raw(member.linkname)
            yield from self._tree.put(self._entry(path, kind, member, size=len(target), target=target))
        else:
            size = DIRECTORY_SIZE if kind is Kind.DIRECTORY else 0
            rdev = _device(member) if kind in (Kind.CHARACTER, Kind.BLOCK) else 0
            yield from self._tree.put(self._entry(path, kind, member, size=size, rdev=rdev))

    def _entry(self, path: bytes, kind: Kind, member: tarfile.TarInfo, **more: Any) -> Entry:
        uid, gid = self._placement.owner or (member.uid, member.gid)
        xattrs = _xattrs(member) if self._policy.xattrs else ()
        return Entry(path, kind, member.mode & 0o7777, uid, gid, mtime_ns=_mtime_ns(member), xattrs=xattrs, **more)

    def _blocks(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._guard(lambda: archive.extractfile(member))
        assert file is not None  # only for what is no file
        missing = member.size
        with file:
            while block := self._guard(lambda: file.read(BLOCK_SIZE)):
                missing -= len(block)
                yield block
        if missing:
            raise self._damaged(f"{missing} bytes of {_shown(member.name)} are missing")


def _decompressed(raw: IO[bytes]) -> io.BufferedIOBase:
    head = b""
    while len(head) < 512 and (more := raw.read(512 - len(head))):
        head += more
    stream = io.BufferedReader(_Rejoined(head, raw), BLOCK_SIZE)
    if head.startswith(b"\x1f\x8b\x08"):
        return gzip.GzipFile(fileobj=stream)
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return bz2.BZ2File(stream)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(stream)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(stream)
    return stream


def _zstd(stream: io.BufferedIOBase) -> io.BufferedIOBase:
    """The standard library has it from Python 3.14 on; its backport has the same shape."""
    for module in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            file: io.BufferedIOBase = importlib.import_module(module).ZstdFile(stream)
            return file
    raise BadSource(
        "the archive is compressed by zstd, which this Python cannot read",
        hint="install the package backports.zstd, or pipe it: zstd -dc ARCHIVE | stratus publish NAME -",
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    return paths.display(_raw(text))


def _bad_member(member: tarfile.TarInfo, problem: str) -> BadSource:
    return BadSource(f"the member {_shown(member.name)!r} {problem}", hint="make the archive without it")


def _components(name: str, member: tarfile.TarInfo) -> tuple[bytes, ...]:
    """The components of the name of a member, or of what it links to. Raises BadSource if it leads out."""
    raw = _raw(name)
    parts = raw.split(b"/")
    if raw.startswith(b"/") or not raw or b".." in parts or b"\0" in raw:
        problem = "has an absolute name, '..' in it, or none at all"
        raise _bad_member(
            member, problem if name == member.name else f"is a hard link that {problem}: {_shown(name)!r}"
        )
    parts = [part for part in parts if part not in (b"", b".")]
    if any(len(part) > paths.NAME_MAX for part in parts):
        raise _bad_member(member, "has a component of more than 255 bytes")
    return tuple(parts)


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """Exact to the nanosecond, where tarfile only has a float of what the pax header says."""
    text = member.pax_headers.get("mtime")
    if text is None:
        return int(member.mtime) * _NANO
    parsed = _SECONDS.fullmatch(text)
    if parsed is None:
        raise _bad_member(member, f"gives {text!r} for its last change, which is no time")
    sign, whole, fraction = parsed.groups()
    absolute = int(whole) * _NANO + int((fraction or "")[:9].ljust(9, "0"))
    return -absolute if sign else absolute


def _device(member: tarfile.TarInfo) -> int:
    if not (0 <= member.devmajor < 1 << 12 and 0 <= member.devminor < 1 << 20):  # the kernel's limits
        raise _bad_member(member, f"has the device number {member.devmajor}:{member.devminor}")
    return os.makedev(member.devmajor, member.devminor)


def _xattrs(member: tarfile.TarInfo) -> Xattrs:
    found = member.pax_headers.items()
    return tuple(sorted((_raw(key[len(_XATTR) :]), _raw(value)) for key, value in found if key.startswith(_XATTR)))
