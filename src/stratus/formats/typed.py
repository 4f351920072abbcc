"""Data as struct types: what ``msgspec`` does, and no more than one thread that does it for the first time.

When msgspec (0.22) first reads a type, it notes the type's fields one by one. A thread that reads the same type
meanwhile finds them half noted, and the interpreter crashes. So whatever may be read by several threads is read
through here.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_known: set[object] = set()
_mutex = threading.Lock()


def convert(found: object, kind: type[T]) -> T:
    """Plain data as the type. Raises msgspec.ValidationError, which is a ValueError."""
    _know(kind)
    return msgspec.convert(found, kind)


def from_json(data: bytes | str, kind: type[T]) -> T:
    """JSON as the type. Raises msgspec.DecodeError, which is a ValueError."""
    _know(kind)
    return msgspec.json.decode(data, type=kind)


def from_msgpack(data: bytes, kind: type[T]) -> T:
    """MessagePack as the type. Raises msgspec.DecodeError, which is a ValueError."""
    _know(kind)
    return msgspec.msgpack.decode(data, type=kind)


def _know(kind: Any) -> None:
    """Sees that msgspec has noted the type, and all that it is made of."""
    if kind not in _known:
        with _mutex:
            msgspec.msgpack.Decoder(kind)
            _known.add(kind)
