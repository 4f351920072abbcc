"""The headers of tar archives, read at the disk's pace: what is usual in them, and nothing else.

Understood are the old, POSIX and GNU forms with long names and extended headers. Whatever is unusual — sparse files,
damage, what does not look like everything else, also the end of the archive — is left to ``tarfile``, which then
reads on from the first block of that member: so both give the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple
from zlib import adler32

BLOCK = 512  # bytes
_MAX_EXTENDED = 1 << 20  # bytes of an extended header; larger ones are unusual
_MOST_EXTENDED = 100
_MOST_SEEN = 10_000  # fields that are remembered
_FIELDS = struct.Struct("100s24s12s12s8s1s100s72x16s155s")
_ONLY_TIME = re.compile(rb"([1-9]\d) mtime=(\d{1,12}(?:\.\d{1,9})?)\n\0*")
_BLANK = 8 * 32 - 2  # what a check sum counts for itself; two times Adler's one
FILES = (b"0", b"\0", b"7")
_KNOWN = (*FILES, b"1", b"2", b"3", b"4", b"5", b"6")
_EXTENDED = (b"x", b"g", b"L", b"K")
_TYPE = slice(156, 157)
_OVERRIDES = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")
_XATTR = b"SCHILY.xattr."
_CONTRARY = (b"GNU.sparse", b"hdrcharset", b"SCHILY.realsize")


class Member(NamedTuple):
    """One member, as its headers have it: names raw, ``type`` as in the header, ``mtime`` as text if it is a fraction.

    ``xattrs`` are those of its extended header, in its order.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int | str
    target: bytes
    device: tuple[int, ...]
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Headers:
    """Reads members one after another from where ``read`` is."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ids: dict[bytes, tuple[int, ...]] = {}  # mode, user, group
        self._devices: dict[bytes, tuple[int, ...]] = {}  # major, minor
        self._extended: dict[bytes, Member] = {}  # headers of extended headers: of some writers, all are alike
        self.held: list[bytes] = []  # what was read of the member that is being looked at
        self.length = 0  # bytes that the last call of ``next`` has read

    def next(self) -> Member | None:
        """The next member; None where ``tarfile`` has to go on, with what is ``held`` and then the rest."""
        extended: dict[bytes, dict[bytes, bytes]] = {}
        self.held.clear()
        self.length = 0
        while True:
            block = self._read(BLOCK)
            self.held.append(block)
            self.length += len(block)
            member = self._extended.get(block) if block[_TYPE] in _EXTENDED else None
            member = member or self._parse(block)
            if member is None:
                return None
            if member.type not in _EXTENDED:
                return _override(member, extended) if extended else member
            if len(self._extended) < _MOST_EXTENDED:
                self._extended[block] = member
            if member.type in extended or not 0 < member.size <= _MAX_EXTENDED:
                return None
            data = self._read(-(-member.size // BLOCK) * BLOCK)
            self.held.append(data)
            self.length += len(data)
            values = _extension(member.type, data)
            if values is None:
                return None
            if member.type != b"g":
                extended[member.type] = values
            elif any(map(_matters, values)):
                return None
            elif not extended:  # of a global header that says nothing, nothing has to be kept
                self.held.clear()

    def _parse(self, block: bytes) -> Member | None:
        if len(block) != BLOCK:
            return None
        name, ids, size, mtime, checksum, kind, target, device, prefix = _FIELDS.unpack_from(block)
        total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF)  # each below its modulus
        if total - sum(checksum) + _BLANK != _number(checksum):
            return None
        known = self._ids.get(ids) or _remember(self._ids, ids, _numbers(ids[:8], ids[8:16], ids[16:]))
        devices = self._devices.get(device) or _remember(self._devices, device, _numbers(device[:8], device[8:]))
        if known is None or devices is None:
            return None
        size_number, mtime_number = _number(size), _number(mtime)
        if size_number is None or mtime_number is None or size_number < 0:
            return None
        if kind not in _KNOWN and kind not in _EXTENDED:
            return None
        name = name.partition(b"\0")[0]
        if kind == b"\0" and name.endswith(b"/"):
            kind = b"5"
        if prefix[0] and kind not in (b"L", b"K"):
            name = prefix.partition(b"\0")[0] + b"/" + name
        mode, uid, gid = known
        return Member(name, kind, mode, uid, gid, size_number, mtime_number, target.partition(b"\0")[0], devices)


def _remember(
    known: dict[bytes, tuple[int, ...]], fields: bytes, numbers: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    if numbers is not None:
        if len(known) > _MOST_SEEN:
            known.clear()
        known[fields] = numbers
    return numbers


def _numbers(*fields: bytes) -> tuple[int, ...] | None:
    numbers = [number for field in fields if (number := _number(field)) is not None]
    return tuple(numbers) if len(numbers) == len(fields) else None


def _number(field: bytes) -> int | None:
    """An octal or base-256 number; None for what is unusual."""
    if field[:-1].isdigit() and not field[-1]:  # as most write it
        digits = field[:-1]
    elif field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number if field[0] == 0x80 else number - (1 << 8 * (len(field) - 1))
    else:
        digits = field.rstrip(b" \0").lstrip(b" ")
        if not digits:
            return 0
        if not digits.isdigit():
            return None
    try:
        return int(digits, 8)
    except ValueError:
        return None


def _extension(kind: bytes, data: bytes) -> dict[bytes, bytes] | None:
    """What an extended header sets; None for what is unusual."""
    only_time = _ONLY_TIME.fullmatch(data)
    if only_time and int(only_time[1]) == only_time.end(2) + 1 and kind == b"x":
        return {b"mtime": only_time[2]}
    if kind == b"L":
        return {b"path": data.partition(b"\0")[0]}
    if kind == b"K":
        return {b"linkpath": data.partition(b"\0")[0]}
    values = {}
    position = 0
    while position < len(data) and data[position]:
        digits = data[position : data.find(b" ", position, position + 10)]
        if not digits.isdigit() or digits.startswith(b"0"):
            return None
        end = position + int(digits)
        key, equals, value = data[position + len(digits) + 1 : end - 1].partition(b"=")
        if not key or not equals or end > len(data) or data[end - 1] != 10 or not key.isascii():
            return None
        if key.startswith(_CONTRARY) or (key in (b"size", b"uid", b"gid") and not _is_usual(value)):
            return None
        values[key] = value
        position = end
    return values


def _is_usual(value: bytes) -> bool:
    return value.isdigit() and len(value) < 20


def _matters(key: bytes) -> bool:
    return key in _OVERRIDES or key.startswith(_XATTR)


def _override(member: Member, extended: dict[bytes, dict[bytes, bytes]]) -> Member:
    """The member with what its extended headers say; of two that say the same the earlier one is right."""
    found: dict[bytes, bytes] = {}
    for values in reversed(extended.values()):
        found |= values
    pax = extended.get(b"x", {})
    if b"path" in pax and found[b"path"] is pax[b"path"]:
        found[b"path"] = found[b"path"].rstrip(b"/")
    name, kind, mode, uid, gid, size, seconds, target, device, _ = member
    mtime = found.get(b"mtime")
    return Member(
        found.get(b"path", name),
        kind,
        mode,
        int(found.get(b"uid", uid)),
        int(found.get(b"gid", gid)),
        int(found.get(b"size", size)),
        seconds if mtime is None else mtime.decode("utf-8", "surrogateescape"),
        found.get(b"linkpath", target),
        device,
        _xattrs(pax) if len(pax) > (b"mtime" in pax) else (),
    )


def _xattrs(pax: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((key[len(_XATTR) :], value) for key, value in pax.items() if key.startswith(_XATTR))
