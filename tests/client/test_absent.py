from __future__ import annotations

import pytest

from stratus.client import absent
from stratus.client.absent import KEEP, AbsentNames


def test_names_are_known_for_as_long_as_the_kernel_may_remember_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    names = AbsentNames()
    assert names.tell(1, b"a") == KEEP
    now = KEEP - 0.1
    names.tell(1, b"b")
    now = KEEP + 0.1
    names.tell(2, b"a")
    assert sorted(names.all()) == [(1, b"a"), (1, b"b"), (2, b"a")]
    now = 2 * KEEP + 0.2
    names.tell(1, b"c")
    assert sorted(names.all()) == [(1, b"c"), (2, b"a")]
    now = 10 * KEEP
    names.tell(1, b"d")
    assert names.all() == [(1, b"d")]


def test_what_is_too_much_the_kernel_may_not_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "_MOST", 2)
    names = AbsentNames()
    assert [names.tell(1, name) for name in (b"a", b"b", b"c")] == [KEEP, KEEP, 0]
    assert names.all() == [(1, b"a"), (1, b"b")]
