"""Entries of the audit trail, ``audit/<yyyy-mm>/<time>-<nonce>``: who asked for what, from where, and what came of it.

Each is written once and never changed. No secret, no token and no signature is in them.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from stratus.errors import BadFormat
from stratus.formats import typed
from stratus.formats.key_record import Moment
from stratus.formats.records import new_nonce

_LONGEST = 1000  # characters of what others may choose


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, or one change by the owner.

    Attributes:
        time: UTC, when the outcome was known.
        kind: of the event (``lease.acquire``, ``submit``, …), or what the owner did (``key.create``, …).
        status: as of HTTP; 0 for what was done without the API.
        code: of the error, if it was one; ``detail`` is what it said, or how much was done.
        writer, identity, proof: as far as they were proven (see ``trust.identity``).
        host: where the request came from.
        id: of the lease and its change set, the key or the rule.
        path: in the repository, with surrogate escapes.
        others: refusals since the last entry that were too many to be written one by one.
    """

    time: Moment
    kind: str
    status: int = 0
    code: str = ""
    detail: str = ""
    writer: str = ""
    identity: str = ""
    proof: str = ""
    host: str = ""
    id: str = ""
    path: str | None = None
    others: int = 0

    @property
    def outcome(self) -> str:
        """``done``, ``refused`` or ``failed``."""
        if self.status < 400:
            return "done"
        return "refused" if self.status < 500 else "failed"

    def name(self) -> str:
        """A new one for its key: sorted as the times are."""
        moment = self.time.astimezone(UTC)
        return f"{moment:%Y-%m}/{moment:%Y%m%dT%H%M%S.%f}-{new_nonce()}"

    def pack(self) -> bytes:
        """As JSON; what others chose is cut."""
        cut = {name: getattr(self, name)[:_LONGEST] for name in ("code", "detail", "writer", "proof", "host", "id")}
        path = None if self.path is None else self.path[:_LONGEST].encode("utf-8", "backslashreplace").decode()
        safe = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in cut.items()}
        return msgspec.json.encode(msgspec.structs.replace(self, **safe, path=path))

    @classmethod
    def parse(cls, data: bytes) -> AuditEntry:
        """Raises BadFormat."""
        try:
            return typed.from_json(data, cls)
        except msgspec.DecodeError as error:
            raise BadFormat(f"not an entry of the audit trail: {error}") from error


def months(since: datetime, until: datetime) -> list[str]:
    """The prefixes of the names in this time, in order."""
    first, last = since.year * 12 + since.month - 1, until.year * 12 + until.month - 1
    return [f"{number // 12:04}-{number % 12 + 1:02}/" for number in range(first, last + 1)]
