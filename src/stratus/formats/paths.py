"""Paths inside a repository, and repository names.

A path is bytes: ``b""`` is the root, everything else is ``b"/a/b"`` with a leading slash and none at the end. Path
hashes are MD5 over exactly these bytes, so the form matters: the root is never ``b"/"``.
"""

from __future__ import annotations

import hashlib
import re
import struct

from stratus.errors import BadName

NAME_MAX = 255
_unpack_halves = struct.Struct("<qq").unpack
_FQRN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")


def parse(text: str | bytes) -> bytes:
    """The path that a user means; ``/``, ``a/b`` and ``/a//b/`` are understood. Raises BadName for ``.`` and ``..``."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    parts = [part for part in raw.split(b"/") if part]
    for part in parts:
        if part in (b".", b"..") or b"\0" in part or len(part) > NAME_MAX:
            raise BadName(f"{display(raw)!r} is not a path in a repository", hint="use absolute paths without . and ..")
    return join(parts)


def join(parts: list[bytes] | tuple[bytes, ...]) -> bytes:
    """The path of a sequence of components."""
    return b"".join(b"/" + part for part in parts)


def components(path: bytes) -> tuple[bytes, ...]:
    """The components; the root has none. Sorting by this keeps every sub tree contiguous."""
    return tuple(path.split(b"/")[1:])


def parent(path: bytes) -> bytes:
    """The directory that ``path`` lies in; the root's is the root."""
    return path[: max(path.rfind(b"/"), 0)]


def name(path: bytes) -> bytes:
    """The last component; the root's is empty."""
    return path[path.rfind(b"/") + 1 :]


def ancestors(path: bytes) -> list[bytes]:
    """All proper ancestors, the root first; the root has none."""
    parts = components(path)
    return [join(parts[:n]) for n in range(len(parts))]


def contains(top: bytes, path: bytes) -> bool:
    """Whether ``path`` is ``top`` or lies below it, by components."""
    return path == top or path.startswith(top + b"/")


def md5_halves(path: bytes) -> tuple[int, int]:
    """The two signed little-endian 64-bit halves of the path's MD5, as catalogs hold them."""
    first, second = _unpack_halves(hashlib.md5(path, usedforsecurity=False).digest())
    return first, second


def display(path: bytes) -> str:
    """For people and JSON: UTF-8 with surrogate escapes; the root is ``/``."""
    return path.decode("utf-8", "surrogateescape") or "/"


def check_fqrn(fqrn: str) -> str:
    """``fqrn`` itself. Raises BadName unless it is a fully qualified repository name, at least two labels."""
    if len(fqrn) > 60 or not _FQRN.fullmatch(fqrn):
        raise BadName(
            f"{fqrn!r} is not a repository name",
            hint="use at most 60 letters, digits, '-', '_' with at least one dot, such as software.example.org",
        )
    return fqrn
