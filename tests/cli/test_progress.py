from __future__ import annotations

from io import StringIO

from stratus.cli.progress import Drawn


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_rate_and_remaining_time_and_is_clean_in_the_end() -> None:
    out, clock = Terminal(), Clock()
    draw = Drawn(out, clock)
    draw(1, 1, None, None)
    assert out.getvalue() == ""
    clock.now = 2.0
    draw(1000, 50_000_000, 2000, 100_000_000)
    assert out.getvalue() == (
        "\r[##########          ] 1,000 of 2,000 files, 47.7 MiB of 95.4 MiB "
        "(500 files/s, 23.8 MiB/s, 2.0 s left)\x1b[K"
    )
    draw(2000, 100_000_000, 2000, 100_000_000)
    assert out.getvalue().endswith("\r\x1b[K")


def test_elsewhere_it_is_a_line_a_minute() -> None:
    out, clock = StringIO(), Clock()
    draw = Drawn(out, clock)
    for clock.now in range(0, 150, 10):
        draw(int(clock.now) * 100, 0, None, None)
    assert out.getvalue() == "6,000 files, 0 B (100 files/s, 0 B/s)\n12,000 files, 0 B (100 files/s, 0 B/s)\n"


def test_what_is_over_at_once_is_not_worth_a_line() -> None:
    for out in (StringIO(), Terminal()):
        draw = Drawn(out, Clock())
        draw(1, 1, None, None)
        draw(2, 2, 2, 2)
        assert out.getvalue() == ""
