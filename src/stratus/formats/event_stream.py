"""Server-sent events (``text/event-stream``), as the HTML standard has them: to bytes, and piece by piece back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from stratus.errors import BadFormat

MEDIA_TYPE = "text/event-stream"
_LINE_MAX = 2 << 20  # bytes
_LINE = re.compile(rb"\r\n|\n|\r(?!\Z)")  # whether a last CR is a whole end of line, the next piece tells


class StreamEvent(msgspec.Struct, frozen=True):
    """An event; ``id`` is the last one that the stream gave, what to resume from."""

    data: bytes
    id: str = ""


def pack_event(data: bytes, id: str | int | None = None) -> bytes:  # noqa: A002 (as the standard calls it)
    """An event of one line of data. Raises BadFormat for more than a line."""
    if b"\n" in data or b"\r" in data:
        raise BadFormat("an event of several lines")
    return (b"" if id is None else f"id: {id}\n".encode()) + b"data: " + data + b"\n\n"


def pack_comment(text: str = "") -> bytes:
    """What readers ignore, and connections are kept alive by."""
    return f": {text}\n\n".encode()


class EventReader:
    """Takes a stream in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """The events that are complete with this piece. Raises BadFormat for one that does not end."""
        *lines, self._rest = _LINE.split(self._rest + piece)
        if len(self._rest) + self._size > _LINE_MAX:
            raise BadFormat(f"an event of more than {_LINE_MAX} bytes")
        for line in lines:
            if line:
                self._take(line)
                continue
            data, self._data, self._size = self._data, [], 0
            if data:
                yield StreamEvent(b"\n".join(data), self._id)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
