from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats.event_stream import EventReader, StreamEvent, pack_comment, pack_event


def read(*pieces: bytes) -> list[StreamEvent]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@given(st.lists(st.integers(1, 50)), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_is_the_same_however_it_is_cut(sizes: list[int], end: bytes) -> None:
    stream = pack_comment("hello") + pack_event(b"one", 7) + pack_comment() + pack_event(b"two") + pack_event(b"3", 9)
    stream = stream.replace(b"\n", end) + b": x"
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    assert read(*pieces, stream) == [StreamEvent(b"one", "7"), StreamEvent(b"two", "7"), StreamEvent(b"3", "9")]


def test_data_of_several_lines_and_what_nobody_knows() -> None:
    stream = b"event: x\nretry: 10\ndata:a\ndata: b\ndata\nunknown\n\nid: 3\n\n"
    assert read(stream) == [StreamEvent(b"a\nb\n")]


def test_an_event_without_its_end_is_none() -> None:
    assert read(b"data: a\n") == []


def test_an_event_has_one_line() -> None:
    with pytest.raises(BadFormat):
        pack_event(b"a\nb")


def test_a_stream_that_does_not_end_its_events_is_refused() -> None:
    with pytest.raises(BadFormat):
        read(*[b"x" * (1 << 20)] * 3)
    with pytest.raises(BadFormat):
        read(*[b"data: " + b"x" * (1 << 20) + b"\n"] * 3, b"x")
