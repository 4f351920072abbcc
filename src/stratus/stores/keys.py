"""Which keys can be, everywhere: what one store cannot hold, none takes."""

from __future__ import annotations

import re

from stratus.errors import UsageError

COMPONENT_LIMIT = 255  # bytes; file names, and SeaweedFS answers 400 at 256
KEY_LIMIT = 1024  # bytes; S3

_USUAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){0,8}")  # nothing is wrong
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")  # what XML cannot hold, and what SeaweedFS takes for a slash
_OBJECT = re.compile(r"(?:^|/)data/([0-9a-f]{2})/([0-9a-f]{38}(?:-rmd160|-shake128)?[A-Z]?)$")


def check_key(key: str) -> None:
    """Raises UsageError for a key that not every store can hold."""
    if _USUAL.fullmatch(key):
        return
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise _bad(key, "is not UTF-8") from None
    if len(encoded) > KEY_LIMIT:
        raise _bad(key, f"has more than {KEY_LIMIT} bytes")
    if _FORBIDDEN.search(key):
        raise _bad(key, "holds control characters or a backslash")
    for component in encoded.split(b"/"):
        if component in (b"", b".", b".."):
            raise _bad(key, "has an empty component, or one of dots")
        if len(component) > COMPONENT_LIMIT:
            raise _bad(key, f"has a component of more than {COMPONENT_LIMIT} bytes")


def object_name(key: str) -> str | None:
    """The hash of the bytes, if it is what the key is named after (``…data/xx/rest``, letter included)."""
    found = _OBJECT.search(key)
    return None if found is None else found[1] + found[2]


def collision(key: str) -> UsageError:
    """The error for a key that is a path prefix of another one, or the other way round."""
    return UsageError(
        f"the key {key!r} and another one are path prefixes of each other",
        hint="some stores keep keys as files and directories, so no key may lie below another",
    )


def _bad(key: str, why: str) -> UsageError:
    return UsageError(f"the key {key!r} {why}", hint="shorten or rename what the key is made of")
