"""Tar archives as sources: read once from front to back, so that a pipe will do.

Understood are the old, POSIX, GNU and pax forms, sparse files among them, plain or compressed; the compression is told
by the first bytes. Names and link targets are bytes throughout. ``headers.py`` reads what is usual, ``tarfile`` the
rest. The files in a plain archive that can be seeked are only located, and read by whoever packs them.
"""

from __future__ import annotations

import bz2
import contextlib
import importlib
import io
import lzma
import os
import re
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import msgspec
from isal import igzip_lib

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.formats.entries import Kind
from stratus.ingest.contract import DIRECTORY_SIZE, Body, Draft, File, Placement, Warn
from stratus.ingest.headers import BLOCK, FILES, Headers, Member
from stratus.ingest.tree import Tree

BLOCK_SIZE = 256 << 10  # bytes, of reads
_AHEAD = 4 << 10  # bytes that are read with a header: those that follow it, and the next ones if files are small
SMALL = 1 << 20  # bytes; a file of a stream that is no larger is held as a whole
_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
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
_NO_NAMES = (b"", b".", b"..")
_FORMATS = "tar archives, plain or compressed by gzip, bzip2, xz or zstd"
T = TypeVar("T")


class Archive(msgspec.Struct, frozen=True):
    """A tar archive in a file, or on standard input (``file`` None), which can be read once."""

    file: Path | None

    @property
    def name(self) -> str:
        return "standard input" if self.file is None else str(self.file)

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        """As the contract says. Raises BadSource for what is damaged, cut off, or no archive at all."""
        with contextlib.ExitStack() as stack:
            if self.file is None:
                raw: IO[bytes] = sys.stdin.buffer
            else:
                try:
                    raw = stack.enter_context(self.file.open("rb", buffering=0))
                except OSError as error:
                    raise BadSource(
                        f"{self.name} cannot be read: {error.strerror}", hint="check its permissions"
                    ) from error
            reading = _Reading(self.name, placement, warn)
            stack.callback(reading.close)
            yield from reading.run(raw, self.file)


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
        self._read: Callable[[int], bytes] = getattr(rest, "read1", rest.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _Gunzip(io.RawIOBase):
    """What a gzip stream holds, by ISA-L: twice as fast as the standard library, and as prompt."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._read = stream.read1
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._input = b""  # that the member has not been given
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ended:
            if self._member.eof:
                self._next_member()
                continue
            if not self._input and self._member.needs_input:
                self._input = self._read(BLOCK_SIZE)
                if not self._input:
                    raise EOFError("it ended before the end-of-stream marker was reached")
            data, self._input = self._input, b""
            plain = self._member.decompress(data, len(buffer))
            if plain:
                buffer[: len(plain)] = plain
                return len(plain)
        return 0

    def _next_member(self) -> None:
        rest = self._member.unused_data
        while not (rest := rest.lstrip(b"\0")) and (rest := self._read(BLOCK_SIZE)):
            pass  # zeros are padding
        self._ended = not rest
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._input = rest


class _Prompt(io.RawIOBase):
    """A stream whose reads give what there is, so that it is not lost if what follows is damaged."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto1(buffer)


class _Window:
    """The bytes of a file from ``position`` on, little more of them than are asked for."""

    def __init__(self, descriptor: int) -> None:
        self.position = 0
        self._descriptor = descriptor
        self._data = b""
        self._start = 0

    def read(self, size: int) -> bytes:
        """As many bytes, fewer at the end of the file."""
        start = self.position - self._start
        data = self._data[start : start + size]
        if len(data) != size:
            self._data = data = os.pread(self._descriptor, max(size, _AHEAD), self.position)
            self._start = self.position
            data = data[:size]
        self.position += len(data)
        return data


class _Reading:
    def __init__(self, name: str, placement: Placement, warn: Warn) -> None:
        self._name = name
        self._placement = placement
        self._warn = warn
        self._tree = Tree(warn)
        self._last: bytes | None = None  # the last member that was read whole
        self._landed: dict[bytes, bytes] = {}  # names of directories, with a slash, and where they land

    def close(self) -> None:
        self._tree.close()

    def run(self, raw: IO[bytes], file: Path | None) -> Iterator[Draft]:
        stream, located = self._guard(lambda: _decompressed(raw, file))
        with contextlib.closing(stream):
            if located is not None:
                yield from self._locate(raw, located)
                return
            headers = Headers(stream.read)
            while (member := self._next(headers)) is not None:
                body = None
                if member.type in FILES and member.size > SMALL:
                    body = Body(self._large(stream, member), member.size)
                elif member.type in FILES:
                    padded = -(-member.size // BLOCK) * BLOCK
                    data = self._guard(partial(stream.read, padded))
                    if len(data) != padded:
                        headers.held.append(data)
                        break
                    body = Body(data[: member.size], member.size)
                yield from self._member(member, body)
                self._last = member.name
            yield from self._read_on(_Rejoined(b"".join(headers.held), stream))

    def _locate(self, raw: IO[bytes], located: _Located) -> Iterator[Draft]:
        """Reads no more than the headers."""
        window = _Window(raw.fileno())
        headers = Headers(window.read)
        while (member := self._next(headers)) is not None:
            body = None
            if member.type in FILES:
                padded = -(-member.size // BLOCK) * BLOCK
                if window.position + padded > located.size:
                    break
                body = Body(located.file, member.size, window.position)
                window.position += padded
            yield from self._member(member, body)
            self._last = member.name
        raw.seek(window.position)
        yield from self._read_on(_Rejoined(b"".join(headers.held), raw))

    def _next(self, headers: Headers) -> Member | None:
        try:
            return headers.next()
        except Exception as error:
            raise self._damaged(str(error) or type(error).__name__) from error

    def _large(self, stream: IO[bytes], member: Member) -> Iterator[bytes]:
        missing = member.size
        read = stream.read
        while missing:
            block = self._guard(partial(read, min(missing, BLOCK_SIZE)))
            if not block:
                raise self._damaged("unexpected end of data")
            missing -= len(block)
            yield block
        self._guard(partial(read, -member.size % BLOCK))

    def _read_on(self, rest: _Rejoined) -> Iterator[Draft]:
        """From the first member that is unusual, or from the end of the archive."""
        stream = io.BufferedReader(rest, BLOCK_SIZE)
        with self._guard(lambda: self._open(stream)) as archive:
            while (member := self._guard(archive.next)) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep them all
                body = Body(self._blocks(archive, member), member.size) if member.isreg() else None
                yield from self._member(_usual(member), body)
                self._last = _raw(member.name)
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
            if self._last is not None:
                raise
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
        where = "before its first member ends" if self._last is None else f"after {_shown(self._last.rstrip(b'/'))}"
        return BadSource(
            f"{self._name} is damaged or cut off {where}: {reason}", hint="make or download the archive again"
        )

    def _member(self, member: Member, body: Body | None) -> list[Draft]:
        name = member.name
        slash = name.rfind(b"/", 0, -1) + 1
        last = name[slash:-1] if name.endswith(b"/") else name[slash:]
        directory = self._landed.get(name[:slash])
        kind = _KINDS.get(member.type)
        if directory is not None and kind is not None and _is_plain(last):
            path = directory + b"/" + last
            if kind is Kind.DIRECTORY:
                self._landed[name[:slash] + last + b"/"] = path
            return [self._tree.put(self._draft(path, kind, member, body))]
        parts = _components(name, member)
        if _is_plain(last) and len(parts) > self._placement.strip_components:
            above = parts[self._placement.strip_components : -1]
            self._landed[name[:slash]] = self._placement.path + paths.join(above)
        if kind is None and member.type != tarfile.LNKTYPE:
            self._warn(f"{_shown(member.name)}: a member of unknown type {member.type!r}, left out")
            return []
        if not parts and kind is not Kind.DIRECTORY:
            raise _bad_member(member, "takes the place of the top directory")
        landed = self._placement.land(parts)
        if landed is not None and kind is not None:
            return [self._tree.put(self._draft(landed, kind, member, body))]
        if landed is not None:
            target = self._placement.land(_components(member.target, member))
            if target is None:
                raise _bad_member(member, f"is a hard link to {_shown(member.target)}, which is left out")
            return self._tree.link(landed, target)
        if kind is not Kind.DIRECTORY:
            self._warn(f"{_shown(member.name)}: no more than the components to strip, left out")
        if body is not None and isinstance(body.where, Iterator):
            for _ in body.where:
                pass
        return []

    def _draft(self, path: bytes, kind: Kind, member: Member, body: Body | None) -> Draft:
        _, _, mode, uid, gid, size, mtime, target, _, xattrs = member
        if self._placement.owner is not None:
            uid, gid = self._placement.owner
        mtime_ns = mtime * _NANO if isinstance(mtime, int) else _mtime_ns(mtime, member)
        xattrs = tuple(sorted(xattrs)) if xattrs and self._placement.xattrs else ()
        if kind is Kind.FILE:
            return Draft(path, kind, mode & 0o7777, uid, gid, size, mtime_ns, b"", 0, xattrs, 0, body)
        if kind is not Kind.SYMLINK:
            target = b""
        size = DIRECTORY_SIZE if kind is Kind.DIRECTORY else len(target)
        rdev = _device(member) if kind in (Kind.CHARACTER, Kind.BLOCK) else 0
        return Draft(path, kind, mode & 0o7777, uid, gid, size, mtime_ns, target, rdev, xattrs, 0, None)

    def _blocks(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._guard(lambda: archive.extractfile(member))
        assert file is not None  # only for what is no file
        missing = member.size
        with file:
            while block := self._guard(lambda: file.read(BLOCK_SIZE)):
                missing -= len(block)
                yield block
        if missing:
            raise self._damaged(f"{missing} bytes of {_shown(_raw(member.name))} are missing")


class _Located(msgspec.Struct, frozen=True):
    """A plain archive that others can read too; ``size`` in bytes."""

    file: File
    size: int


def _decompressed(raw: IO[bytes], file: Path | None) -> tuple[IO[bytes], _Located | None]:
    """The plain bytes, prompt ones, and where they are if they are in a file just so."""
    head = b""
    while len(head) < BLOCK and (more := raw.read(BLOCK - len(head))):
        head += more
    decompress = next((opener for pattern, opener in _OPENERS if pattern.match(head)), None)
    status = None if file is None else os.fstat(raw.fileno())
    if decompress is None and file is not None and status is not None and stat.S_ISREG(status.st_mode):
        raw.seek(0)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        located = _Located(File(os.path.abspath(os.fsencode(file)), identity), status.st_size)  # noqa: PTH100
        return io.BufferedReader(cast(io.RawIOBase, raw), BLOCK_SIZE), located
    stream: Any = io.BufferedReader(_Rejoined(head, raw), BLOCK_SIZE)
    return (stream if decompress is None else io.BufferedReader(decompress(stream), BLOCK_SIZE)), None


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


_OPENERS: tuple[tuple[re.Pattern[bytes], Callable[[Any], io.RawIOBase]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), _Gunzip),
    (re.compile(rb"BZh[1-9]1AY&SY"), lambda stream: _Prompt(bz2.BZ2File(stream))),
    (re.compile(rb"\xfd7zXZ\0"), lambda stream: _Prompt(lzma.LZMAFile(stream))),  # noqa: SIM115
    (re.compile(rb"\x28\xb5\x2f\xfd"), lambda stream: _Prompt(_zstd(stream))),
)


def _usual(member: tarfile.TarInfo) -> Member:
    headers = member.pax_headers
    mtime = headers.get("mtime")
    found = ((_raw(key[len(_XATTR) :]), _raw(value)) for key, value in headers.items() if key.startswith(_XATTR))
    return Member(
        _raw(member.name),
        member.type,
        member.mode,
        member.uid,
        member.gid,
        member.size,
        int(member.mtime) if mtime is None else mtime,
        _raw(member.linkname),
        (member.devmajor, member.devminor),
        tuple(found),
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(name: bytes) -> str:
    return paths.display(name)


def _bad_member(member: Member, problem: str) -> BadSource:
    return BadSource(f"the member {_shown(member.name.rstrip(b'/'))!r} {problem}", hint="make the archive without it")


def _components(name: bytes, member: Member) -> list[bytes]:
    """The components of the name of a member, or of what it links to. Raises BadSource if it leads out."""
    parts = name.split(b"/")
    if not parts[0] or b".." in parts or b"\0" in name:
        problem = "has an absolute name, '..' in it, or none at all"
        raise _bad_member(
            member, problem if name == member.name else f"is a hard link that {problem}: {_shown(name)!r}"
        )
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
    if len(name) > paths.NAME_MAX and any(len(part) > paths.NAME_MAX for part in parts):
        raise _bad_member(member, "has a component of more than 255 bytes")
    return parts


def _is_plain(component: bytes) -> bool:
    """Whether this is a name that can be used as it is."""
    return len(component) <= paths.NAME_MAX and component not in _NO_NAMES and b"\0" not in component


def _mtime_ns(text: str, member: Member) -> int:
    """Exact to the nanosecond, where tarfile only has a float of what the pax header says."""
    whole, _, fraction = text.partition(".")
    if len(fraction) == 9 and len(whole) < 12 and (whole + fraction).isdecimal() and text.isascii():  # as most have it
        return int(whole) * _NANO + int(fraction)
    parsed = _SECONDS.fullmatch(text)
    if parsed is None:
        raise _bad_member(member, f"gives {text!r} for its last change, which is no time")
    sign, whole, fraction = parsed.groups()
    absolute = int(whole) * _NANO + int((fraction or "")[:9].ljust(9, "0"))
    return -absolute if sign else absolute


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):  # the kernel's limits
        raise _bad_member(member, f"has the device number {major}:{minor}")
    return os.makedev(major, minor)
