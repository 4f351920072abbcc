"""What a user names: ``NAME[@REVISION|TAG|DATE][:/path]``, where NAME is a configured name, a URL or a directory."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time

import msgspec

from stratus.errors import BadName
from stratus.formats import paths

_PATH = re.compile(r":/(?!/)")  # the one of a URL's scheme is followed by a second slash
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:?[0-9]{2}.*")


class Reference(msgspec.Struct, frozen=True):
    """A place in a repository.

    Attributes:
        name: of a repository that is configured, or a URL or path of one.
        revision: number, tag, or time; None for the newest.
        path: ``b""`` or ``b"/a/b"``.
    """

    name: str
    revision: int | str | datetime | None = None
    path: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises BadName."""
        found = _PATH.search(text)
        head = text if found is None else text[: found.start()]
        path = b"" if found is None else paths.parse(text[found.end() :])
        name, revision = _split_revision(head)
        if not name:
            raise BadName(f"{text!r} names no repository", hint="write NAME, NAME@TAG or NAME:/path")
        if "/" not in name and ":" in name:
            raise BadName(f"{text!r} is not understood", hint="a path begins with a slash: NAME:/path")
        return cls(name, None if revision is None else parse_revision(revision), path)


def parse_revision(text: str) -> int | str | datetime:
    """Digits are a revision, ``2026-11-25`` (its end, UTC) or ``2026-11-25T22:00[Z]`` a time, anything else a tag.

    Raises BadName.
    """
    if not text:
        raise BadName("nothing follows the @", hint="write NAME@17, NAME@TAG or NAME@2026-11-25")
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        if _DATE.fullmatch(text):
            return datetime.combine(datetime.fromisoformat(text), time.max, UTC)
        if _TIME.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise BadName(f"{text!r} is no date: {error}", hint="write it like 2026-11-25 or 2026-11-25T22:00Z") from error
    return text


def _split_revision(head: str) -> tuple[str, str | None]:
    """Splits at the @ that follows the repository's name; others belong to a URL or a directory."""
    for found in re.finditer("@", head):
        name, revision = head[: found.start()], head[found.end() :]
        if _ends_with_name(name):
            revision, question, options = revision.partition("?")
            return name + question + options, revision
    if "/" not in head and "@" in head:
        name, _, revision = head.partition("@")
        return name, revision
    return head, None


def _ends_with_name(url: str) -> bool:
    try:
        paths.check_fqrn(url.partition("?")[0].rstrip("/").rpartition("/")[2])
    except BadName:
        return False
    return True
