"""What an event asks for: its parameters as values, and the lease that its token proves."""

from __future__ import annotations

import hmac
import re

from stratus.errors import BadFormat, LeaseLost, NotPermitted, UsageError
from stratus.formats import messages, path_code
from stratus.formats.claim import Claim, hash_secret
from stratus.formats.paths import check_fqrn
from stratus.functions.contract import Caller, Event
from stratus.leases.holding import Held
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow

_ID = re.compile(r"[a-z2-7]{20}")


def layout_of(event: Event) -> Layout:
    """Raises BadName."""
    return Layout(check_fqrn(event.repository))


def caller_of(event: Event) -> Caller:
    """Who asks. Raises NotPermitted if nobody signed the request."""
    if event.caller is None:
        raise NotPermitted("the request is not signed", hint="sign it with a writer's key")
    return event.caller


def id_of(event: Event) -> str:
    """The id of a lease and its change set. Raises UsageError."""
    found = event.parameters.get("id", "")
    if not _ID.fullmatch(found):
        raise UsageError(f"{found[:40]!r} is not the id of a lease", hint="use the id that the lease was granted with")
    return found


def path_of(text: str | None) -> bytes | None:
    """The bytes of a path in a message; None for what leaves the tree alone. Raises UsageError."""
    try:
        return None if text is None else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError("the path has characters that stand for no bytes", hint="use surrogate escapes") from error


def read_claim(event: Event, layout: Layout) -> Flow[Held | None]:
    """The claim of the lease that is asked for, whoever holds it; None if it is gone. Raises UsageError."""
    found = yield from flows.find(claim_key(event, layout))
    return None if found is None else Held(Claim.parse(found.data), found.version)


def claim_key(event: Event, layout: Layout) -> str:
    """Where the claim would be. Raises UsageError."""
    lease, path = id_of(event), path_of(event.parameters.get("path"))
    return layout.pathless(lease) if path is None else layout.lease(path_code.claim_name(path, lease))


def must_hold(event: Event, claim: Claim) -> None:
    """Raises NotPermitted unless the caller is who acquired the lease, and has its token."""
    must_prove(event, claim)
    if caller_of(event).writer != claim.writer:
        raise _not_theirs()


def must_prove(event: Event, claim: Claim) -> None:
    """Raises NotPermitted without the token of the lease."""
    try:
        lease, secret = messages.split_token(event.parameters.get("lease", ""))
    except BadFormat as error:
        raise NotPermitted(error.message, hint=error.hint) from error
    if not hmac.compare_digest(hash_secret(secret), claim.secret) or lease != claim.id:
        raise _not_theirs()


def _not_theirs() -> NotPermitted:
    return NotPermitted("the lease is somebody else's", hint="send the token that came with the lease")


def gone(event: Event) -> LeaseLost:
    """The error for a lease whose claim is not there any more."""
    return LeaseLost(f"there is no lease {id_of(event)} of that path", hint="acquire a new lease and publish again")
