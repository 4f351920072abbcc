"""Paths in keys: an encoding under which "at and below" is a byte prefix.

Each component, with bytes outside ``[A-Za-z0-9.-]`` as ``_XX``, is followed by ``!``; the root is empty. ``/a/b_c``
becomes ``a!b_5Fc!``, so ``/foo`` is no prefix of ``/foobar``. Stores limit components of keys to 255 bytes: a ``/`` is
inserted before every 201st byte, which keeps prefixes prefixes. A claim of exactly ``p`` begins with ``code(p)!``,
since ``!!`` occurs only before the id.
"""

from __future__ import annotations

import re

from stratus.errors import BadFormat, UsageError
from stratus.formats import paths

_PIECE = 200  # bytes between two slashes
_ID = 20  # characters
_LONGEST_KEY = 1024  # bytes; S3's limit, and that of its imitations
_ROOM = 200  # bytes of a key that are not the path: store prefix, repository, kind, id
_ODD = re.compile(rb"[^A-Za-z0-9.-]")


def encode(path: bytes) -> str:
    """The code of a path. Raises UsageError if it is too long for a key."""
    plain = b"".join(_ODD.sub(lambda m: b"_%02X" % m[0][0], part) + b"!" for part in paths.components(path))
    code = _cut(plain.decode())
    if len(code) > _LONGEST_KEY - _ROOM:
        raise UsageError(f"{paths.display(path)} is too long to be leased", hint="lease a directory above it")
    return code


def claim_name(path: bytes, claim: str) -> str:
    """The last part of the key of a claim (or queue entry) of exactly this path."""
    return _cut(f"{_uncut(encode(path))}!!{claim}" if path else f"!!{claim}")


def exactly(path: bytes) -> str:
    """The prefix of all claims of exactly this path."""
    return _cut(f"{_uncut(encode(path))}!!")


def at_and_below(path: bytes) -> str:
    """The prefix of all claims of this path and of all below."""
    return encode(path)


def split_name(name: str) -> tuple[bytes, str]:
    """The path and the id in a claim's name. Raises BadFormat."""
    code, found, claim = _uncut(name).rpartition("!!")
    parts = code.removesuffix("!").split("!")
    if not found or not claim:
        raise BadFormat(f"{name!r} is no claim's name")
    try:
        raw = [re.sub(rb"_([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), part.encode("ascii")) for part in parts]
    except UnicodeEncodeError:
        raise BadFormat(f"{name!r} is no claim's name") from None
    return paths.join(raw) if code else b"", claim


def claim_id(key: str) -> str:
    """The id in the key of a claim, whether it has a path or not."""
    return _uncut(key)[-_ID:]


def _cut(plain: str) -> str:
    return "/".join(plain[start : start + _PIECE] for start in range(0, len(plain), _PIECE))


def _uncut(code: str) -> str:
    return code.replace("/", "")
