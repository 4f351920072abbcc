"""What writers ask for: leases, receipts, the queue, the state of a repository. Submitting is in ``submission``."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import msgspec

from stratus.commit import locking
from stratus.commit.locking import SeenLock
from stratus.commit.queue import list_queue
from stratus.errors import BadFormat, NoSuchRepository, NotFound, StratusError, UsageError
from stratus.formats import messages, path_code
from stratus.formats.changes import new_id
from stratus.formats.claim import Claim, Epoch
from stratus.formats.key_record import short_id
from stratus.formats.manifest import Manifest
from stratus.formats.messages import (
    Base,
    ClaimInfo,
    ClaimList,
    LeaseGranted,
    LeaseRenewed,
    LeaseRequest,
    Problem,
    Queued,
    QueueEntry,
    QueueInfo,
    Start,
    Status,
)
from stratus.formats.records import Collection, Settings
from stratus.formats.step import Step
from stratus.functions.asked import caller_of, gone, id_of, layout_of, must_hold, path_of, read_claim
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.intake import read_settings
from stratus.leases import holding, quotas, waiting
from stratus.leases.acquiring import Wish, acquire
from stratus.leases.holding import Held
from stratus.repository.collection import read_collection
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Blob, Store
from stratus.stores.flows import Flow
from stratus.trust.identity import Identity, may_lease, must_be_active

_SECRET_BYTES = 24

# -- leases ----------------------------------------------------------------------------------------------------------


def acquire_lease(event: Event, context: Context) -> Reply:
    """``lease.acquire``: one attempt at a lease. Raises LeaseHeld, NotPermitted."""
    layout, caller = layout_of(event), caller_of(event)
    try:
        asked = messages.parse(event.body, LeaseRequest)
    except BadFormat as error:
        raise UsageError(error.message, hint="the API's document says what a lease request is") from error
    path = path_of(asked.path)
    store = context.stores(layout.fqrn)
    may_lease(caller.identity, path, store.now())
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    wish = Wish(
        path,
        caller.writer,
        asked.host or caller.host,
        secret,
        asked.ttl,
        f"{caller.identity.id} {asked.request}",
        asked.process,
    )
    granted = flows.run(_in_turn(layout, wish, asked, context, caller.identity), store)
    return Reply(201, messages.pack(granted))


def _in_turn(layout: Layout, wish: Wish, asked: LeaseRequest, context: Context, who: Identity) -> Flow[LeaseGranted]:
    """As ``_acquire``; if the writer waits, behind those who have done so for longer."""
    attempt = _acquire(layout, wish, asked, context, who)
    if wish.path is None or (asked.attempt == 1 and not asked.wait):
        return (yield from attempt)
    waiter = short_id(wish.request.encode("utf-8", "backslashreplace"))
    place = yield from waiting.find_place(layout, wish.path, waiter)
    return (yield from waiting.in_turn(place, attempt, last=not asked.wait))


def _acquire(layout: Layout, wish: Wish, asked: LeaseRequest, context: Context, who: Identity) -> Flow[LeaseGranted]:
    settings, collection = yield from flows.both(_settings(layout), read_collection(layout))
    begun = yield from flows.now()
    gc = Epoch.of(collection)
    lease = new_id()
    key = layout.pathless(lease) if wish.path is None else layout.lease(path_code.claim_name(wish.path, lease))
    try:
        held, fits = yield from flows.both(
            acquire(layout, wish, gc, asked.attempt, lease, context.is_gone),
            quotas.enter(layout, who.id, lease, key, who.quota.leases),
        )
    except StratusError:
        yield from quotas.leave(layout, who.id, lease)
        raise
    try:
        if not fits:
            raise quotas.too_many(who.quota.leases)
        # Read once the lease is won: nobody changes the path from now on.
        base = yield from _base(layout)
    except StratusError:
        yield from flows.both(holding.release(layout, held), quotas.leave(layout, who.id, lease))
        raise
    return LeaseGranted(
        id=held.claim.id,
        token=messages.token(held.claim.id, wish.secret),
        path=held.claim.path,
        writer=wish.writer,
        ttl=wish.ttl,
        expires=begun + timedelta(seconds=wish.ttl),
        gc=gc,
        collection=collection.nonce,
        base=Base(base.revision, str(base.root), base.root_size),
        settings=settings,
    )


def _settings(layout: Layout) -> Flow[Settings]:
    """As writers may know them."""
    settings, _ = yield from read_settings(layout)
    return msgspec.structs.replace(settings, webhooks=())  # their URLs are often secrets


def _base(layout: Layout) -> Flow[Manifest]:
    """The newest manifest; those who go by it verify it themselves."""
    blob = yield from flows.find(layout.manifest)
    if blob is None:
        raise NoSuchRepository(f"there is no repository {layout.fqrn} here", hint="check the name and the URL")
    return Manifest.parse(blob.data)


def renew_lease(event: Event, context: Context) -> Reply:
    """``lease.renew``. A lease under which a change set waits needs no renewal. Raises LeaseLost, NotPermitted."""
    layout = layout_of(event)
    store = context.stores(layout.fqrn)
    begun = store.now()
    held = _own_lease(event, layout, store)
    if held.claim.state == "sealed":
        return Reply(200, messages.pack(LeaseRenewed(held.claim.id, None)))
    if held.claim.state == "dead":
        raise gone(event)
    renewed = flows.run(holding.renew(layout, held), store)
    expires = begun + timedelta(seconds=renewed.claim.ttl)
    return Reply(200, messages.pack(LeaseRenewed(renewed.claim.id, expires)))


def release_lease(event: Event, context: Context) -> Reply:
    """``lease.release``: nothing happens to a lease that is gone, or under which a change set waits."""
    layout = layout_of(event)
    store = context.stores(layout.fqrn)
    held = flows.run(read_claim(event, layout), store)
    if held is not None:
        must_hold(event, held.claim)
        if held.claim.state == "open":
            ended = quotas.leave(layout, quotas.holder_of(held.claim), held.claim.id)
            flows.run(flows.both(holding.release(layout, held), ended), store)
    return Reply(204)


def _own_lease(event: Event, layout: Layout, store: Store) -> Held:
    held = flows.run(read_claim(event, layout), store)
    if held is None:
        raise gone(event)
    must_hold(event, held.claim)
    may_lease(caller_of(event).identity, path_of(held.claim.path), store.now())
    return held


def break_lease(event: Event, context: Context) -> Reply:
    """``lease.break``: ends somebody's lease, by whoever may lease the path. Raises Busy, LeaseLost, NotPermitted."""
    layout, caller = layout_of(event), caller_of(event)
    store = context.stores(layout.fqrn)
    may_lease(caller.identity, path_of(event.parameters.get("path")), store.now())
    held = flows.run(read_claim(event, layout), store)
    if held is None or held.claim.state == "dead":
        raise gone(event)
    flows.run(holding.break_(layout, held), store)
    flows.run(quotas.leave(layout, quotas.holder_of(held.claim), held.claim.id), store)
    context.log.warning("%s: %s broke the lease %s of %s", layout.fqrn, caller.writer, held.claim.id, held.claim.writer)
    return Reply(204)


def list_leases(event: Event, context: Context) -> Reply:
    """``lease.list``: all that are open or sealed, for everybody with a key."""
    layout = layout_of(event)
    store = _readable(event, context)
    blobs = flows.run(_claims(layout), store)
    claims = [(Claim.parse(blob.data), blob) for blob in blobs if blob is not None]
    alive = [_info(claim, blob) for claim, blob in claims if claim.state != "dead"]
    alive.sort(key=lambda info: (info.path or "", info.id))
    return Reply(200, messages.pack(ClaimList(tuple(alive))))


def _claims(layout: Layout) -> Flow[list[Blob | None]]:
    listed = yield from flows.both(flows.list_keys(layout.lease("")), flows.list_keys(layout.pathless("")))
    return (yield from flows.together([flows.find(stat.key) for stats in listed for stat in stats]))


def _info(claim: Claim, blob: Blob) -> ClaimInfo:
    return ClaimInfo(
        id=claim.id,
        path=claim.path,
        writer=claim.writer,
        host=claim.host,
        state=claim.state,
        since=claim.since,
        ttl=claim.ttl,
        expires=blob.modified + timedelta(seconds=claim.ttl) if claim.state == "open" else None,
    )


# -- receipts and states ---------------------------------------------------------------------------------------------


def find_receipt(event: Event, context: Context) -> Reply:
    """``receipt``: 200 with the receipt, 202 if the change set waits, 404 if it is not known.

    If it waits though nobody commits, with ``wake`` somebody is woken. Raises what a submission that went on by
    itself was refused with.
    """
    layout, change_set = layout_of(event), id_of(event)
    store = _readable(event, context)
    blob, step, unknown, lock = flows.run(_look_for(layout, change_set), store)
    if blob is not None:
        return Reply(200, blob.data)
    checking = None if step is None else Step.parse(step.data)
    if checking is not None and "refused" in checking.body:
        raise messages.parse(checking.body["refused"].encode(), Problem).error()
    if unknown and checking is None:
        raise NotFound(
            f"no change set {change_set} was submitted to {layout.fqrn}",
            hint="receipts are kept for a while only; was it submitted?",
        )
    state = Queued(change_set, "queued" if checking is None else "checking")
    wake = "wake" in event.parameters and checking is None and lock.is_free(store.now(), context.is_gone)
    return Reply(
        202, messages.pack(state), (("Retry-After", "1"),), (commit_event(layout, change_set),) if wake else ()
    )


def _look_for(layout: Layout, change_set: str) -> Flow[tuple[Blob | None, Blob | None, bool, SeenLock]]:
    receipt, step, missing, lock = yield from flows.together(
        [
            flows.find(layout.receipt(change_set)),
            flows.find(layout.step("submit", change_set)),
            flows.missing([layout.change_set(change_set)]),
            locking.look(layout),
        ]
    )
    return receipt, step, bool(missing), lock


def commit_event(layout: Layout, why: str) -> Event:
    """What makes somebody commit."""
    return Event("commit", f"commit-{why}", layout.fqrn)


def show_queue(event: Event, context: Context) -> Reply:
    """``queue``: what waits, the oldest first."""
    layout = layout_of(event)
    store = _readable(event, context)
    queue, lock = flows.run(flows.both(list_queue(layout), locking.look(layout)), store)
    entries = tuple(QueueEntry(queued.id, queued.since) for queued in queue)
    return Reply(200, messages.pack(QueueInfo(entries, _committer(lock, store.now(), context))))


def show_status(event: Event, context: Context) -> Reply:
    """``status``: what everybody may know; who commits, and what a publish starts from, only those with a key."""
    layout, caller = layout_of(event), event.caller
    store = context.stores(layout.fqrn) if caller is None else _readable(event, context)
    manifest, queue, lock, collection, settings = flows.run(_status(layout), store)
    status = Status(
        repository=layout.fqrn,
        revision=manifest.revision,
        root=str(manifest.root),
        root_size=manifest.root_size,
        timestamp=datetime.fromtimestamp(manifest.timestamp, UTC),
        queue=queue,
        committer=None if caller is None else _committer(lock, store.now(), context),
        gc=Epoch.of(collection),
        start=None if caller is None else Start(caller.writer, collection.nonce, settings),
    )
    return Reply(200, messages.pack(status))


def _status(layout: Layout) -> Flow[tuple[Manifest, int, SeenLock, Collection, Settings]]:
    (settings, collection), (queue, lock) = yield from flows.both(
        flows.both(_settings(layout), read_collection(layout)), flows.both(list_queue(layout), locking.look(layout))
    )
    return (yield from _base(layout)), len(queue), lock, collection, settings


def _committer(lock: SeenLock, now: datetime, context: Context) -> str | None:
    return None if lock.is_free(now, context.is_gone) else lock.lock.owner


def _readable(event: Event, context: Context) -> Store:
    """The store, if the caller may read what only writers may. Raises NotPermitted."""
    caller = caller_of(event)
    store = context.stores(layout_of(event).fqrn)
    must_be_active(caller.identity, store.now())
    return store
