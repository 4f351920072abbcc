"""Submitting a change set: it is looked at first, which may take several invocations, then it is sealed.

Until then it can be refused with the reason at once. What does not fit into one invocation goes on by itself: the
change set is stored, how far it has come is in ``steps/submit/<id>``, and the writer sees 202 with ``checking``.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

import msgspec

from stratus.commit.receipts import find_receipt
from stratus.commit.submitting import submit
from stratus.errors import BadFormat, Busy, Exists, LeaseLost, NotFound, Rejected, UsageError
from stratus.formats import change_file, messages, typed
from stratus.formats.changes import ChangeSet
from stratus.formats.claim import Claim
from stratus.formats.manifest import Manifest
from stratus.formats.messages import LARGEST_INLINE, STAGED, Problem, Queued
from stratus.formats.receipt import Receipt
from stratus.formats.step import Step
from stratus.functions.api import commit_event
from stratus.functions.asked import caller_of, gone, id_of, layout_of, must_hold, path_of, read_claim
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.grants import OF_MEMORY
from stratus.functions.inspection import Progress, check_header, check_records, inspect
from stratus.functions.intake import Intake, read_settings
from stratus.leases.holding import Held, key_of
from stratus.repository.collection import condemned_since, read_collection
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Blob, Store
from stratus.stores.flows import Flow
from stratus.trust.identity import may_lease

_MARGIN = 0.25  # part of the time that is left to storing and sealing
_DUE = timedelta(seconds=90)  # after which somebody else goes on
_MOST_ATTEMPTS = 5  # in a row without getting anywhere
_NEW_LEASE = "acquire a new lease for each change set"


def submit_change_set(event: Event, context: Context) -> Reply:
    """``submit``: 202 once it waits to be committed (or still is looked at), 200 with the receipt if there is one.

    Without a caller it goes on with what was begun. Raises Rejected, LeaseLost, NotPermitted, Busy in a sweep.
    """
    return _go_on(event, context) if event.caller is None else _begin(event, context)


def _step_key(layout: Layout, change_set: str) -> str:
    return layout.step("submit", change_set)


class _Work(msgspec.Struct, frozen=True):
    """A change set on its way to the seal."""

    layout: Layout
    store: Store
    held: Held
    file: bytes
    change_set: ChangeSet
    intake: Intake
    progress: Progress
    attempt: int = 1
    stored: bool = False  # there is a step of it
    staged: bool = False  # the file came by a grant


# -- from a writer ---------------------------------------------------------------------------------------------------


def _begin(event: Event, context: Context) -> Reply:
    layout, caller = layout_of(event), caller_of(event)
    store = context.stores(layout.fqrn)
    begun = flows.both(read_claim(event, layout), flows.find(_step_key(layout, id_of(event))))
    (held, blob), (_, intake) = flows.run(flows.both(begun, read_settings(layout)), store)
    if held is None:
        return _over(event, layout, store)
    claim = held.claim
    must_hold(event, claim)
    may_lease(caller.identity, path_of(claim.path), store.now())
    file = _file(event, layout, store, context.memory // OF_MEMORY)
    if claim.state == "dead":
        raise gone(event)
    change_set = _parse(file)
    staged = "staged" in event.parameters
    work = _Work(layout, store, held, file, change_set, intake, _begun(blob, file), 1, blob is not None, staged)
    if claim.state == "sealed":
        return _seal(work, context)
    check_header(change_set, claim=claim.id, repository=layout.fqrn, path=path_of(claim.path), writer=caller.writer)
    _check_base(event, change_set)
    check_records(change_set, path_of(claim.path))
    return _look(work, context)


def _file(event: Event, layout: Layout, store: Store, largest: int) -> bytes:
    """The change set, from the body or from where it was staged. Raises UsageError."""
    digest = event.parameters.get("staged")
    if digest is None:
        if len(event.body) > LARGEST_INLINE:
            raise UsageError(
                f"a change set of {len(event.body)} bytes is too large for a request, which takes {LARGEST_INLINE}",
                hint="stage it first",
            )
        return event.body
    file = _staged(layout, id_of(event), store, largest)
    if len(file) > largest:
        raise UsageError(f"the change set has more than {largest} bytes", hint="publish in smaller pieces")
    if change_file.digest(file) != digest:
        raise UsageError("another change set was staged than the one that is submitted", hint="stage it again")
    return file


def _staged(layout: Layout, change_set: str, store: Store, largest: int) -> bytes:
    """From where it was put by a grant; once it was submitted, from where that has put it."""
    for key in (layout.staged(change_set, STAGED), layout.change_set(change_set)):
        with contextlib.suppress(NotFound):
            return store.get(key, (0, largest + 1)).data
    raise UsageError("the change set was not staged", hint=f"ask for a grant of `{STAGED}`, and put it there first")


def _parse(file: bytes) -> ChangeSet:
    try:
        return change_file.parse(file)
    except BadFormat as error:
        raise Rejected(error.message, reason="bad_change_set", hint=error.hint) from error


def _check_base(event: Event, change_set: ChangeSet) -> None:
    base = event.parameters.get("base")
    if base is not None and base != str(change_set.base):
        raise UsageError(
            f"the change set was made against revision {change_set.base}, not {base}", hint="leave the base out"
        )


def _begun(blob: Blob | None, file: bytes) -> Progress:
    """How far an earlier invocation came with these very bytes, if it did not refuse them."""
    step = None if blob is None else Step.parse(blob.data)
    if step is None or "refused" in step.body or step.body.get("digest") != change_file.digest(file):
        return Progress()
    return typed.convert(step.body["progress"], Progress)


def _over(event: Event, layout: Layout, store: Store) -> Reply:
    """The receipt of a change set whose claim is gone. Raises LeaseLost if there is none."""
    receipt = flows.run(find_receipt(layout, id_of(event)), store)
    if receipt is None or receipt.writer not in ("", caller_of(event).writer):
        raise gone(event)
    return Reply(200, receipt.pack())


# -- going on by itself ----------------------------------------------------------------------------------------------


def _go_on(event: Event, context: Context) -> Reply:
    """Whoever began has been asked who it is. There is nobody to be told of a refusal: it is kept in the step."""
    layout, change_set = layout_of(event), id_of(event)
    store = context.stores(layout.fqrn)
    key = _step_key(layout, change_set)
    blob = flows.run(flows.find(key), store)
    step = None if blob is None else Step.parse(blob.data)
    if step is None or step.due is None:
        return Reply(204)
    (claim, file, receipt), (_, intake) = flows.run(
        flows.both(_kept(layout, change_set, step), read_settings(layout)), store
    )
    if receipt is not None:
        store.delete([key])
        return Reply(204)
    try:
        return _look(_resumed(layout, store, step, claim, file, intake), context)
    except (Rejected, LeaseLost) as error:
        status = 422 if isinstance(error, Rejected) else 410
        refused = messages.pack(Problem.of(error, status)).decode()
        store.put(key, msgspec.structs.replace(step, due=None, body={"refused": refused}).pack())
        context.log.info("%s: the change set %s was refused: %s", layout.fqrn, change_set, error)
        return Reply(204)


def _kept(layout: Layout, change_set: str, step: Step) -> Flow[tuple[Blob | None, Blob | None, Receipt | None]]:
    """The claim, the file and the receipt, as far as they are there."""
    claim, file = yield from flows.both(flows.find(step.body["claim"]), flows.find(layout.change_set(change_set)))
    return claim, file, None if claim is not None else (yield from find_receipt(layout, change_set))


def _resumed(layout: Layout, store: Store, step: Step, claim: Blob | None, file: Blob | None, intake: Intake) -> _Work:
    if claim is None:
        raise LeaseLost("the lease is gone", hint="acquire a new lease and publish again")
    if file is None or change_file.digest(file.data) != step.body["digest"]:
        raise Rejected("another change set was stored under this lease", reason="other_change_set", hint=_NEW_LEASE)
    held = Held(Claim.parse(claim.data), claim.version)
    progress = typed.convert(step.body["progress"], Progress)
    return _Work(layout, store, held, file.data, _parse(file.data), intake, progress, step.attempt, stored=True)


# -- looking and sealing ---------------------------------------------------------------------------------------------


def _look(work: _Work, context: Context) -> Reply:
    """As much of the inspection as fits, then the seal or a follow-up."""
    if work.held.claim.state == "sealed":
        return _seal(work, context)
    layout, store = work.layout, work.store
    # The epoch of the claim is older than all that is read here.
    manifest, _ = flows.run(flows.both(flows.get(layout.manifest), _none_condemned(work)), store)
    enough = context.seconds_left * _MARGIN
    progress = inspect(
        work.change_set,
        store,
        layout,
        Manifest.parse(manifest.data),
        context.recent(layout.fqrn),
        work.intake,
        work.progress,
        context.memory // OF_MEMORY,
        lambda: context.seconds_left < enough,
    )
    if progress.done:
        return _seal(work, context)
    attempt = 1 if progress != work.progress else work.attempt + 1
    if attempt > _MOST_ATTEMPTS:
        raise Rejected(
            "the change set cannot be looked at in the time that a function has",
            reason="too_heavy",
            hint="publish in smaller pieces, or in smaller catalogs",
        )
    flows.run(_keep(work, progress, attempt), store)
    _tidy(work)
    event = Event("submit", work.held.claim.id, layout.fqrn, {"id": work.held.claim.id}, attempt=attempt)
    reply = messages.pack(Queued(work.held.claim.id, "checking"))
    return Reply(202, reply, (("Retry-After", "2"),), (event,))


def _keep(work: _Work, progress: Progress, attempt: int) -> Flow[None]:
    """Makes what goes on durable: the change set first."""
    claim = work.held.claim
    yield from _store_file(work)
    now = yield from flows.now()
    body = {
        "claim": key_of(work.layout, claim),
        "digest": change_file.digest(work.file),
        "progress": msgspec.to_builtins(progress),
    }
    step = Step(kind="submit", id=claim.id, due=now + _DUE, attempt=attempt, body=body)
    yield from flows.put(_step_key(work.layout, claim.id), step.pack())


def _tidy(work: _Work) -> None:
    """The file is where it belongs."""
    if work.staged:
        work.store.delete([work.layout.staged(work.held.claim.id, STAGED)])


def _store_file(work: _Work) -> Flow[None]:
    """Once. Raises Rejected if another one was stored under this id."""
    key = work.layout.change_set(work.held.claim.id)
    try:
        yield from flows.put(key, work.file, ABSENT)
    except Exists:
        found = yield from flows.find(key)
        if found is None or found.data != work.file:
            raise Rejected(
                "another change set was submitted under this lease", reason="other_change_set", hint=_NEW_LEASE
            ) from None


def _none_condemned(work: _Work) -> Flow[None]:
    """Raises Busy if the sweep that runs is about to delete objects of the change set, and it began under it."""
    gc = work.held.claim.gc
    if gc.phase == "quiet":
        return
    collection = yield from read_collection(work.layout)
    if collection.n != gc.n or collection.phase == "quiet":
        return  # what is found now was found after that sweep
    found = yield from condemned_since(work.layout, collection, gc.n - 1, work.change_set.objects)
    if found is None or found:
        count = "some" if found is None else len(found)
        raise Busy(
            f"{count} objects of the change set are being collected at the moment",
            hint="wait until the collection is over, upload them again, and submit again",
        )


def _seal(work: _Work, context: Context) -> Reply:
    layout, store, claim = work.layout, work.store, work.held.claim
    submitted = flows.run(submit(layout, work.held, work.file, work.change_set.base, claim.gc), store)
    _tidy(work)
    if work.stored:
        store.delete([_step_key(layout, claim.id)])
    if isinstance(submitted, Receipt):
        return Reply(200, submitted.pack())
    free = submitted.lock.is_free(store.now(), context.is_gone)
    reply = messages.pack(Queued(claim.id))
    return Reply(202, reply, (("Retry-After", "1"),), (commit_event(layout, claim.id),) if free else ())
