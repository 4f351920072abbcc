"""What the parsers of all verbs have in common: usage errors, help with an example, options and their types."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn, TypeAlias

from stratus.errors import UsageError

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 (it has no public name)
REFERENCE = "NAME[@REVISION|TAG|DATE][:/path]"
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(?:i?B)?", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see `{self.prog} --help`")


def add_verb(verbs: Verbs, name: str, summary: str, example: str, more: str = "") -> Parser:
    """A parser for a verb whose help ends with an example; ``more`` is what the summary does not say."""
    return verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{' ' if more else ''}{more}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_public_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--public-key",
        metavar="FILE",
        type=Path,
        help="the repository's public key (default: from the configuration, or where the stock client keeps it)",
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        metavar="DIR",
        type=Path,
        help="directory with the repository's keys (default: from the configuration)",
    )


def add_api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api", metavar="URL", help="publish through this API (default: STRATUS_API, or from the configuration)"
    )
    parser.add_argument(
        "--writer-key",
        metavar="FILE",
        type=Path,
        help="the own key for the API (default: STRATUS_WRITER_KEY, or from the configuration)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="instead of a key: a file with a bearer token (default: the token in STRATUS_TOKEN, or as configured)",
    )


def add_wait(parser: argparse.ArgumentParser, what: str = "for a lease that somebody else holds") -> None:
    parser.add_argument(
        "--wait", metavar="SECONDS", type=positive, default=0.0, help=f"how long to wait {what} (default: not at all)"
    )


def size(text: str) -> int:
    """Bytes: a number, with K, M, G or T for powers of 1024."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 8388608 or 8M")
    return int(found[1]) << _UNITS[found[2].upper()]


def owner(text: str) -> tuple[int, int]:
    """User and group, ``U:G``: numbers, or names that this machine knows."""
    import grp
    import pwd

    user, colon, group = text.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        colon = ""
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is no owner; write USER:GROUP, numbers or names of this machine")
    return uid, gid


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def natural(text: str) -> int:
    """A whole number, 1 or more."""
    number = count(text)
    if not number:
        raise argparse.ArgumentTypeError("0 is too few")
    return number
