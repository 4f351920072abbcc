"""A mapping that overflows into a file is a mapping."""

from __future__ import annotations

from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from stratus.ingest.overflow import Overflow

_keys = st.binary(max_size=3)


@given(st.lists(st.tuples(_keys, st.integers())), st.integers(1, 8), _keys, _keys)
def test_it_holds_what_a_dictionary_holds(items: list[tuple[bytes, int]], most: int, start: bytes, end: bytes) -> None:
    plain = dict(items)
    overflow = Overflow(most)
    for key, value in items:
        overflow.set(key, value)
        assert overflow.get(key) == value
    assert overflow.is_held == (len(plain) <= most) or len(items) > most
    assert bool(overflow) == bool(plain)
    keys = [*plain, b"none"]
    assert overflow.find(keys) == plain
    assert [key for key in keys if key in overflow] == list(plain)
    assert list(overflow.items()) == sorted(plain.items())
    assert list(overflow.keys()) == sorted(plain)
    assert list(overflow.items(start, end)) == sorted(item for item in plain.items() if start <= item[0] < end)
    for key in plain:
        overflow.set(key, 7)
    assert list(overflow.items()) == [(key, 7) for key in sorted(plain)]
    overflow.close()


def test_another_thread_may_drop_it() -> None:
    made: list[Overflow] = []

    def make() -> None:
        overflow = Overflow(1)
        overflow.set(b"one", 1)
        overflow.set(b"two", 2)
        made.append(overflow)

    thread = Thread(target=make)
    thread.start()
    thread.join()
    assert not made[0].is_held
    made.clear()  # an exception in __del__ fails this test: warnings are errors
