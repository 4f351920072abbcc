from __future__ import annotations

import pytest

from stratus.cli.printing import bytes_, plural, print_table, seconds, text


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 60, "5120.0 PiB"),
    ],
)
def test_sizes_have_the_unit_that_fits(number: int, expected: str) -> None:
    assert bytes_(number) == expected


def test_times_above_a_minute_are_in_minutes() -> None:
    assert [seconds(0.04), seconds(59.9), seconds(125)] == ["0.0 s", "59.9 s", "2 min 5 s"]


def test_numbers_agree_with_their_nouns() -> None:
    assert plural(1, "entry", "entries") == "1 entry"
    assert plural(3000, "entry", "entries") == "3,000 entries"
    assert plural(2, "key") == "2 keys"


def test_names_cannot_upset_a_terminal() -> None:
    assert text(b"/a\n\x1b[2J\xff\\") == "/a\\x0a\\x1b[2J\\xff\\\\"
    assert text("/käse".encode()) == "/käse"


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("a", "1", "x"), ("bbb", "22", "")], right=frozenset({1}))
    assert capsys.readouterr().out == "a     1  x\nbbb  22\n"
