"""Messages of the API: what is asked and what is answered, as JSON; receipts are in ``receipt``.

Bytes of paths that are no UTF-8 are surrogate escapes in JSON, and percent escapes of the bytes themselves in URLs. In
a URL, ``path=`` is the root, and no ``path`` at all means a claim that leaves the tree alone.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

import msgspec

from stratus.errors import BadFormat, LeaseHeld, Rejected, StratusError
from stratus.formats import typed
from stratus.formats.claim import DEFAULT_TTL, LONGEST_TTL, Epoch, State
from stratus.formats.records import Settings, new_nonce

LARGEST_INLINE = 1 << 20  # bytes of a change set in the body of a request; larger ones are staged first
STAGED = "change-set"  # the name of a change set among uploads
LARGEST_OBJECT = 5 << 30  # bytes: more cannot be put in one request anywhere
MOST_GRANTS = 1000  # objects in one request for grants
LONGEST_WAIT = 25  # seconds that one request waits for a receipt
LONGEST_LEASE_WAIT = 86_400  # seconds that a writer can say it waits for a lease
CHANGE_SET_TYPE = "application/vnd.stratus.change-set"
PROBLEM_TYPE = "application/problem+json"
TOKEN_HEADER = "Stratus-Lease"
GRANT_HEADER = "Stratus-Grant"
_TOKEN = re.compile(r"([a-z2-7]{20})\.([0-9a-zA-Z_-]{16,128})")

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Short = Annotated[str, msgspec.Meta(max_length=255)]


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to lease.

    Attributes:
        path: None for a lease that leaves the tree alone.
        ttl: seconds.
        host, process: where the writer runs, and its mark.
        request: the same for all attempts at it; ``attempt`` grows, and later ones supersede earlier ones.
        wait: seconds for which the writer is going to ask again, 0 at the last attempt: until then it stands in the
            queue of those who wait, and is refused while others have done so for longer.
    """

    path: str | None
    ttl: Annotated[int, msgspec.Meta(ge=10, le=LONGEST_TTL)] = DEFAULT_TTL
    host: Short = ""
    process: Short = ""
    request: Short = msgspec.field(default_factory=new_nonce)
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    wait: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_LEASE_WAIT)] = 0.0


class Base(msgspec.Struct, frozen=True):
    """The newest revision: its number, the hash of its root catalog, and the size of that as a SQLite file."""

    revision: int
    root: str
    root_size: int


class LeaseGranted(msgspec.Struct, frozen=True, kw_only=True):
    """A lease.

    Attributes:
        id: of the lease, and of the change set that is submitted under it.
        token: proves the lease in the header ``Stratus-Lease``; nobody else has it, and it cannot be had again.
        writer: whose key asked for it; the change set has to say so, too.
        expires: UTC, unless it is renewed before.
        gc: the epoch under which objects are looked for; ``collection`` is new with each epoch of each repository.
        base: the revision that everything computed by difference starts from; read once the lease was won.
        settings: how the repository wants content to be stored.
    """

    id: str
    token: str
    path: str | None
    writer: str
    ttl: int
    expires: Moment
    gc: Epoch
    collection: str
    base: Base
    settings: Settings


class LeaseRenewed(msgspec.Struct, frozen=True):
    """The lease lasts until then, UTC; None: a change set was submitted under it, and only its outcome ends it."""

    id: str
    expires: Moment | None


class Wanted(msgspec.Struct, frozen=True):
    """An object that somebody wants to upload: its name, and how many bytes are stored of it.

    Attributes:
        id: the hash of the stored bytes in its text form, then the letter of the kind of object; or ``change-set``.
    """

    id: Short
    size: Annotated[int, msgspec.Meta(ge=0)]


class GrantsRequest(msgspec.Struct, frozen=True):
    """Uploads that somebody asks for."""

    objects: Annotated[tuple[Wanted, ...], msgspec.Meta(max_length=MOST_GRANTS)]


class UploadGrant(msgspec.Struct, frozen=True):
    """One upload: PUT the bytes of the object to ``url`` with these headers, until then (UTC).

    Attributes:
        url: absolute, or relative to the URL that the grants were asked for at.
        headers: just these, beside ``Content-Length``, which is that of the object.
    """

    id: str
    url: str
    headers: tuple[tuple[str, str], ...]
    expires: Moment


class Grants(msgspec.Struct, frozen=True):
    """What is in the repository already, and a grant for each object that is not."""

    present: tuple[str, ...]
    grants: tuple[UploadGrant, ...]


class ClaimInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A claim as everybody may see it; ``expires`` is None for one that is sealed or dead, since then nothing ends it.

    Attributes:
        since: UTC, ISO 8601.
    """

    id: str
    path: str | None
    writer: str
    host: str
    state: State
    since: str
    ttl: int
    expires: Moment | None = None


class ClaimList(msgspec.Struct, frozen=True):
    """All leases at the moment."""

    leases: tuple[ClaimInfo, ...]


class Queued(msgspec.Struct, frozen=True):
    """A change set that was submitted and waits for its receipt, or (``checking``) is still being looked at."""

    id: str
    state: Literal["queued", "checking"] = "queued"


class QueueEntry(msgspec.Struct, frozen=True):
    """A change set that waits, since when (UTC)."""

    id: str
    since: Moment


class QueueInfo(msgspec.Struct, frozen=True):
    """What waits, the oldest first; ``committer`` is the process that commits at the moment, if one does."""

    entries: tuple[QueueEntry, ...]
    committer: str | None = None


class Start(msgspec.Struct, frozen=True):
    """What a lease would say beside the newest revision: whose key asks, see ``LeaseGranted`` for the rest."""

    writer: str
    collection: str
    settings: Settings


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a repository is.

    Attributes:
        root: hash of the root catalog, ``root_size`` its bytes as a SQLite file; ``timestamp`` of the newest revision,
            UTC.
        queue: change sets that wait.
        committer: the process that commits at the moment, if one does.
        gc: the epoch of garbage collection, read before the revision.
        start: what a publish starts from besides; for those with a key.
    """

    repository: str
    revision: int
    root: str
    root_size: int
    timestamp: Moment
    queue: int
    committer: str | None
    gc: Epoch
    start: Start | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, as RFC 9457 has it, with what a ``StratusError`` has besides.

    Attributes:
        title: the status in words.
        detail: the message.
        code: of the error's class; ``reason`` why a change set was rejected.
        holder, host, expires: of the lease that is in the way.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    path: str | None = None
    reason: str | None = None
    holder: str | None = None
    host: str | None = None
    expires: Moment | None = None

    @classmethod
    def of(cls, error: StratusError, status: int) -> Problem:
        """An error as a reply with that status."""
        path = error.to_json()["path"]
        held = error if isinstance(error, LeaseHeld) else None
        return cls(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=error.message,
            code=error.code,
            hint=error.hint,
            path=path,
            reason=error.reason if isinstance(error, Rejected) else None,
            holder=None if held is None else held.holder,
            host=None if held is None else held.host,
            expires=None if held is None else held.expires,
        )

    def error(self) -> StratusError:
        """The error that it was made of; of an unknown code a plain ``StratusError``."""
        path = None if self.path is None else self.path.encode("utf-8", "surrogateescape")
        if self.code == LeaseHeld.code:
            return LeaseHeld(
                self.detail, holder=self.holder or "", host=self.host or "", expires=self.expires, hint=self.hint
            )
        if self.code == Rejected.code:
            return Rejected(self.detail, reason=self.reason or self.code, hint=self.hint, path=path)
        return _CLASSES.get(self.code, StratusError)(self.detail, hint=self.hint, path=path)


def _classes(top: type[StratusError]) -> dict[str, type[StratusError]]:
    found = {top.code: top}
    for kind in top.__subclasses__():
        found = _classes(kind) | found  # a code that a class inherits is that of the upper one
    return found


_CLASSES = _classes(StratusError)
Message = TypeVar(
    "Message",
    LeaseRequest,
    LeaseGranted,
    LeaseRenewed,
    GrantsRequest,
    Grants,
    ClaimList,
    Queued,
    QueueInfo,
    Status,
    Problem,
)


def pack(message: msgspec.Struct) -> bytes:
    """As JSON in ASCII."""
    return json.dumps(msgspec.to_builtins(message), separators=(",", ":")).encode()


def parse(data: bytes, kind: type[Message]) -> Message:
    """Raises BadFormat."""
    try:
        return typed.convert(json.loads(data), kind)
    except (ValueError, RecursionError) as error:  # also those of msgspec
        raise BadFormat(f"not a message of the kind {kind.__name__}: {error}") from error


def token(lease: str, secret: str) -> str:
    """What proves a lease: its id and the secret."""
    return f"{lease}.{secret}"


def split_token(text: str) -> tuple[str, str]:
    """The id and the secret of a token. Raises BadFormat."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise BadFormat("not the token of a lease", hint=f"send the token as {TOKEN_HEADER}: <id>.<secret>")
    return found[1], found[2]
