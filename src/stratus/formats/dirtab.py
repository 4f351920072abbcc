"""The dirtab (``/.cvmfsdirtab``): which directories shall be nested catalogs.

One rule a line; ``#`` begins a comment, a leading ``!`` takes directories out again. ``*`` stands for any part of one
component, ``?`` for one character, a backslash takes the next character as it is. A rule that takes out may match
across ``/``. Source: ``cvmfs/path_filters/dirtab.cc``.
"""

from __future__ import annotations

import functools
import re
from typing import Self

import msgspec

from stratus.errors import BadFormat
from stratus.formats import paths

PATH = b"/.cvmfsdirtab"


class Dirtab(msgspec.Struct, frozen=True):
    """The rules, each in the form of the file, without ``!``."""

    positive: tuple[bytes, ...]
    negative: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises BadFormat for a rule that is not absolute, or that is both positive and negative."""
        positive: list[bytes] = []
        negative: list[bytes] = []
        for number, raw in enumerate(data.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith(b"#"):
                continue
            rules, rule = (negative, line[1:].strip()) if line.startswith(b"!") else (positive, line)
            rule = rule.rstrip(b"/")
            if not rule.startswith(b"/"):
                raise BadFormat(
                    f"line {number} of {paths.display(PATH)}: {paths.display(rule)} is not an absolute path",
                    hint="begin each rule with / or !/",
                )
            rules.append(rule)
        both = set(positive) & set(negative)
        if both:
            raise BadFormat(f"{paths.display(PATH)} has {paths.display(min(both))} as a rule and as its contrary")
        return cls(tuple(positive), tuple(negative))

    def matches(self, directory: bytes) -> bool:
        """Whether the directory shall be a nested catalog."""
        if not directory or not any(_compile(rule, rb"[^/]").fullmatch(directory) for rule in self.positive):
            return False
        return not any(_compile(rule, rb".").fullmatch(directory) for rule in self.negative)

    def leads_to(self, directory: bytes) -> bool:
        """Whether something below the directory could match: worth looking there."""
        depth = directory.count(b"/")
        for rule in self.positive:
            parts = rule.split(b"/")
            if len(parts) > depth + 1 and _compile(b"/".join(parts[: depth + 1]), rb"[^/]").fullmatch(directory):
                return True
        return False


@functools.lru_cache(1024)
def _compile(rule: bytes, any_byte: bytes) -> re.Pattern[bytes]:
    pattern = b""
    characters = iter(rule[n : n + 1] for n in range(len(rule)))
    for character in characters:
        if character == b"*":
            pattern += any_byte + b"*"
        elif character == b"?":
            pattern += any_byte
        else:
            pattern += re.escape(next(characters, b"\\") if character == b"\\" else character)
    return re.compile(pattern, re.DOTALL)
