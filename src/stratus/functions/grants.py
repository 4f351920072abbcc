"""Upload grants: which objects are missing, and for each of them the permission to put just its bytes.

A grant is for one object of one size. Where the store itself can let somebody put one object, it is a presigned
request; where it cannot, it is for the API, and signed by the API.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import msgspec

from stratus.errors import BadFormat, LeaseLost, NotPermitted, UsageError
from stratus.formats import messages
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.lease_marker import LeaseMarker
from stratus.formats.messages import (
    GRANT_HEADER,
    LARGEST_OBJECT,
    STAGED,
    TOKEN_HEADER,
    Grants,
    GrantsRequest,
    UploadGrant,
)
from stratus.functions.asked import caller_of, gone, id_of, layout_of, must_hold, must_prove, path_of, read_claim
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.intake import Intake, read_settings
from stratus.leases import quotas
from stratus.leases.holding import Held
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.flows import Flow
from stratus.trust.identity import may_lease

OF_MEMORY = 8  # part of the memory that a change set, an object to be verified, or one catalog may take
LIFE = timedelta(minutes=15)  # of a grant; shorter than what tending leaves to late requests
_KINDS = (Suffix.DATA, Suffix.PARTIAL, Suffix.CATALOG)


def grant_uploads(event: Event, context: Context) -> Reply:
    """``lease.grants``: what is there, and grants for the rest. Raises LeaseLost, NotPermitted, QuotaExceeded."""
    layout, caller = layout_of(event), caller_of(event)
    try:
        asked = messages.parse(event.body, GrantsRequest)
    except BadFormat as error:
        raise UsageError(error.message, hint="the API's document says what a request for grants is") from error
    store = context.stores(layout.fqrn)
    held, (settings, intake) = flows.run(flows.both(read_claim(event, layout), read_settings(layout)), store)
    claim = _must_be_open(event, held).claim
    must_hold(event, claim)
    may_lease(caller.identity, path_of(claim.path), store.now())
    sizes = {one.id: one.size for one in asked.objects}
    named = {text: _object(text, settings.algorithm) for text in sizes if text != STAGED}
    in_memory = context.memory // OF_MEMORY
    for text, size in sizes.items():
        _check_size(text, size, in_memory if text == STAGED or intake is Intake.STAGED else LARGEST_OBJECT)
    keys = {layout.object(one): text for text, one in named.items()}
    missing = {keys[key] for key in store.missing(keys)} if keys else set()
    wanted = {text: size for text, size in sizes.items() if text in missing or text == STAGED}
    counted = quotas.take(layout, caller.identity.id, caller.identity.quota, sum(wanted.values()), len(wanted))
    marker, _ = flows.run(flows.both(_marker(layout, event, held, intake), counted), store)
    if marker is None:
        grants = [_presigned(layout, store, claim.id, text, named.get(text), wanted[text], intake) for text in wanted]
    else:
        expires = store.now() + LIFE
        grants = [_through(event, marker, text, wanted[text], expires) for text in wanted]
    present = tuple(text for text in sizes if text not in wanted)
    return Reply(200, messages.pack(Grants(present, tuple(grants))))


def _must_be_open(event: Event, held: Held | None) -> Held:
    if held is None or held.claim.state == "dead":
        raise gone(event)
    if held.claim.state == "sealed":
        raise LeaseLost("a change set was submitted under this lease", hint="acquire a new lease for the next one")
    return held


def _object(text: str, algorithm: Algorithm) -> ObjectId:
    """The name of an object that writers may make. Raises UsageError."""
    try:
        one = ObjectId.parse(text)
    except BadFormat as error:
        raise UsageError(error.message, hint="name objects by the hash of their stored bytes") from error
    if one.digest.algorithm is not algorithm or one.suffix not in _KINDS:
        raise UsageError(
            f"{text} is no object that can be uploaded here",
            hint=f"the repository's hash is {algorithm.value}, and they are data, parts (P) and catalogs (C)",
        )
    return one


def _check_size(text: str, size: int, largest: int) -> None:
    if size > largest:
        raise UsageError(
            f"{text} has {size} bytes, {largest} can be uploaded in one piece",
            hint="publish in smaller pieces, or have the repository cut files in smaller chunks",
        )


# -- through the store -----------------------------------------------------------------------------------------------


def _presigned(
    layout: Layout, store: Store, lease: str, text: str, one: ObjectId | None, size: int, intake: Intake
) -> UploadGrant:
    if one is not None and intake is Intake.DIRECT:
        grant = store.presign_put(layout.object(one), one.digest.raw, size, LIFE)
    else:
        grant = store.presign_put(layout.staged(lease, text), None, size, LIFE)
    return UploadGrant(text, grant.url, grant.headers, grant.expires)


# -- through the API -------------------------------------------------------------------------------------------------


class Upload(msgspec.Struct, frozen=True):
    """What may be put: to which key, how many bytes; and of which object, if it is one."""

    key: str
    size: int
    object: ObjectId | None


def _marker(layout: Layout, event: Event, held: Held | None, intake: Intake) -> Flow[LeaseMarker | None]:
    """What signs grants for the API, if the API takes the bytes."""
    if intake is not Intake.THROUGH or held is None:
        return None
    found = yield from quotas.find_marker(layout, held.claim)
    if found is None:
        raise gone(event)
    return found


def _through(event: Event, marker: LeaseMarker, text: str, size: int, expires: datetime) -> UploadGrant:
    """What is secret is in headers: URLs are logged."""
    end = int(expires.timestamp())
    what = f"{size}.{end}"
    path = event.parameters.get("path")
    query = "" if path is None else f"?{urlencode({'path': path}, errors='surrogateescape')}"
    grant = f"{what}.{_mac(marker, id_of(event), text, what)}"
    headers = (TOKEN_HEADER, event.parameters["lease"]), (GRANT_HEADER, grant)
    return UploadGrant(text, f"objects/{text}{query}", headers, datetime.fromtimestamp(end, UTC))


def _mac(marker: LeaseMarker, lease: str, text: str, what: str) -> str:
    signed = "\n".join((lease, text, what)).encode("utf-8", "backslashreplace")
    return hmac.new(marker.secret.encode(), signed, hashlib.sha256).hexdigest()


def permit_upload(event: Event, store: Store) -> Upload:
    """What a grant for the API lets be put now; ``object`` is the name. Raises LeaseLost, NotPermitted.

    The bytes are still to be compared with the name.
    """
    layout = layout_of(event)
    held = _must_be_open(event, flows.run(read_claim(event, layout), store))
    must_prove(event, held.claim)
    marker = flows.run(quotas.find_marker(layout, held.claim), store)
    text = event.parameters.get("object", "")
    what, _, mac = event.parameters.get("grant", "").rpartition(".")
    right = "" if marker is None else _mac(marker, held.claim.id, text, what)
    if not right or not hmac.compare_digest(right.encode(), mac.encode("utf-8", "backslashreplace")):
        raise NotPermitted(
            "this upload was not granted", hint="ask for grants, and use their URLs and headers as they are"
        )
    size, expires = map(int, what.split("."))
    if store.now().timestamp() > expires:
        raise NotPermitted("the grant of this upload has run out", hint="ask for another one")
    if text == STAGED:
        return Upload(layout.staged(held.claim.id, STAGED), size, None)
    one = ObjectId.parse(text)
    return Upload(layout.object(one), size, one)
