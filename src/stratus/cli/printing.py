"""How things look: sizes, times and names for people, JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\\udc80-\udcff]")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def print_json(value: Any) -> None:
    """One line; what is no UTF-8 in names is there as surrogate escapes."""
    import json

    print(json.dumps(value, separators=(",", ":")))


def text(path: bytes) -> str:
    """A name or path for a terminal: control characters and what is no UTF-8 as ``\\xhh``."""
    return _CONTROL.sub(_escape, path.decode("utf-8", "surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\\\" if found[0] == "\\" else f"\\x{code & 0xFF:02x}"


def moment(time: datetime) -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def bytes_(number: int) -> str:
    """``512 B``, ``1.5 MiB``."""
    value, unit = float(number), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{number} B"


def seconds(number: float) -> str:
    """``0.4 s``, ``2 min 5 s``."""
    if number < 60:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s"


def plural(number: int, what: str, many: str = "") -> str:
    """``1 entry``, ``3,000 entries``."""
    return f"{number:,} {what if number == 1 else many or f'{what}s'}"


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """``name  value``, aligned."""
    known = list(facts)
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{name:<{width}}  {value}".rstrip())


def print_table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """Columns as wide as they need to be; those in ``right`` are flush right, the last is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
