"""The exception tree: everything that Stratus raises on purpose.

::

    StratusError                1   something failed
    ├── UsageError              2   the caller asked for something that cannot be
    │   ├── BadName                 not a repository name, tag, revision or path
    │   └── NoSuchRepository        the name is not configured, or nothing is at the URL
    ├── Busy                    3   somebody else holds what is needed; later it may work
    │   └── LeaseHeld               the path, or one that overlaps, is leased; says by whom, and until when
    ├── LeaseLost               3   the own lease was ended: expired, broken, superseded
    ├── Untrusted               4   bytes that are not what somebody trusted signed or named
    │   ├── BadSignature            manifest or whitelist: forged, or by a key that is not listed
    │   ├── BadHash                 an object's bytes do not hash to its name
    │   ├── BadFormat               not parseable as what it should be
    │   ├── Expired                 the whitelist has run out
    │   ├── WrongName               another repository's manifest or whitelist
    │   └── RolledBack              older than what was seen before
    ├── StoreError              5   the store or the network
    │   ├── NotFound                no such key
    │   ├── Exists                  a put that wants an absent key found one
    │   ├── Changed                 a put that wants a version found another one
    │   ├── Unknown                 a conditional write whose answer was lost: it may or may not have landed
    │   ├── Refused                 the store does not let us (credentials, policy)
    │   └── Unsuitable              the store lacks what repositories need (atomic conditional writes)
    ├── NotPermitted            6   a key, a grant or the operating system says no
    │   └── QuotaExceeded           a key may not do more of it for now; says when it may again
    ├── BadSource               1   an archive or directory that cannot be published
    ├── Rejected                1   a change set that cannot be applied; nothing was published
    └── MountError              1   the file system could not be mounted or unmounted

Each class has a stable ``code`` (for programs), an ``exit_code`` (of the command line) and a ``hint`` that says what
to do; the one who raises may give a better hint.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class StratusError(Exception):
    """Something failed.

    Attributes:
        code: stable, lower-case, for programs.
        exit_code: what the command line exits with.
        hint: one sentence, what the user can do about it; may be empty.
        path: the path in the repository that it is about, if there is one.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None, path: bytes | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        if hint is not None:
            self.hint = hint

    def to_json(self) -> dict[str, str | None]:
        """The error object of the contract: code, message, hint, path."""
        path = None if self.path is None else self.path.decode("utf-8", "surrogateescape")
        return {"code": self.code, "message": self.message, "hint": self.hint, "path": path}


class UsageError(StratusError):
    """The caller asked for something that cannot be."""

    code = "usage"
    exit_code = 2


class BadName(UsageError):
    """Not a repository name, tag, revision or path."""

    code = "bad_name"


class NoSuchRepository(UsageError):
    """The name is not configured, or nothing is at the URL."""

    code = "no_such_repository"
    exit_code = 1


class Busy(StratusError):
    """Somebody else holds what is needed."""

    code = "busy"
    exit_code = 3
    hint = "try again in a moment"


class LeaseHeld(Busy):
    """The path, or one that overlaps with it, is leased.

    Attributes:
        holder: the writer's name; ``host`` where it runs.
        expires: UTC; None while a change set is being published under it.
    """

    code = "lease_held"

    def __init__(
        self, message: str, *, holder: str, host: str, expires: datetime | None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder
        self.host = host
        self.expires = expires


class LeaseLost(StratusError):
    """The own lease was ended: it expired, was broken, or a later attempt took its place."""

    code = "lease_lost"
    exit_code = 3
    hint = "acquire a new lease and publish again"


class Untrusted(StratusError):
    """Bytes that are not what somebody trusted signed or named."""

    code = "untrusted"
    exit_code = 4


class BadSignature(Untrusted):
    """A manifest or whitelist that is forged, or signed by a key that is not listed."""

    code = "bad_signature"
    hint = "check that the public key belongs to this repository"


class BadHash(Untrusted):
    """The bytes of an object do not hash to its name."""

    code = "bad_hash"
    hint = "the object is damaged in the store, or something on the way changes bytes"


class BadFormat(Untrusted):
    """Bytes that cannot be parsed as what they should be."""

    code = "bad_format"


class Expired(Untrusted):
    """The whitelist has run out."""

    code = "expired"
    hint = "the owner of the repository renews it with `stratus resign`"


class WrongName(Untrusted):
    """The manifest or whitelist of another repository."""

    code = "wrong_name"


class RolledBack(Untrusted):
    """Older than what was seen before."""

    code = "rolled_back"


class StoreError(StratusError):
    """The store or the network failed."""

    code = "store"
    exit_code = 5
    hint = "check the store's URL and that it can be reached"


class NotFound(StoreError):
    """No such key."""

    code = "not_found"
    hint = ""


class Exists(StoreError):
    """A put that wants an absent key found one."""

    code = "exists"
    hint = ""


class Changed(StoreError):
    """A put that wants a version found another one, or none."""

    code = "changed"
    hint = ""


class Unknown(StoreError):
    """A conditional write whose answer was lost: read again and look for your own bytes."""

    code = "unknown"
    hint = ""


class Refused(StoreError):
    """The store does not let us."""

    code = "refused"
    hint = "check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and the bucket's policy"


class Unsuitable(StoreError):
    """The store lacks what repositories need."""

    code = "unsuitable"


class NotPermitted(StratusError):
    """A key, a grant or the operating system says no."""

    code = "not_permitted"
    exit_code = 6


class QuotaExceeded(NotPermitted):
    """A key has used up what it may; ``retry_after`` is when it may go on, in seconds."""

    code = "quota_exceeded"
    hint = "try again later, or ask the repository's owner for a larger quota"

    def __init__(
        self, message: str, *, retry_after: int = 60, hint: str | None = None, path: bytes | None = None
    ) -> None:
        super().__init__(message, hint=hint, path=path)
        self.retry_after = retry_after


class BadSource(StratusError):
    """An archive or a directory that cannot be published."""

    code = "bad_source"


class Rejected(StratusError):
    """A change set that cannot be applied; nothing was published."""

    code = "rejected"

    def __init__(self, message: str, *, reason: str, hint: str | None = None, path: bytes | None = None) -> None:
        super().__init__(message, hint=hint, path=path)
        self.reason = reason


class MountError(StratusError):
    """The file system could not be mounted or unmounted."""

    code = "mount"
