"""One commit round: folds change sets into a new revision and makes it the head.

The swap of the manifest is the only decision. A round that loses it drops everything and begins again from the winner's
revision; ``stratus.outcomes`` in the root catalog tells what has landed already, so a change set is applied once even
if the answer of the swap was lost.

There is no queue yet: nobody else can publish the same change set meanwhile. So a rejected one needs no revision that
names it, and an outcome is kept until its receipt is known to be there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stratus.catalogs.balance import Weights
from stratus.catalogs.edit import Counts, Editor
from stratus.catalogs.same import same_below
from stratus.catalogs.structure import EMPTY, Made
from stratus.commit.tags import tag_revision
from stratus.errors import BadFormat, Busy, Changed, NotFound, Rejected
from stratus.formats import dirtab, outcomes, paths, records
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import ChangeSet, Remove
from stratus.formats.dirtab import Dirtab
from stratus.formats.hashes import Digest, ObjectId
from stratus.formats.history import History
from stratus.formats.manifest import Manifest
from stratus.formats.outcomes import Outcome
from stratus.formats.records import Collection, Settings
from stratus.repository.fetching import get_catalog, get_content
from stratus.repository.head import Head, Sign, Verify, log_references, packed_history, read_head, swap
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Item
from stratus.stores.flows import Flow

_ATTEMPTS = 20
_LONGEST_PAUSE = 2.0  # seconds between two attempts
_KEPT_OUTCOMES = 32  # more than that are looked at, and those with a receipt dropped


@dataclass(frozen=True, slots=True)
class Committer:
    """What a commit needs to know of the repository; keys stay inside ``verify`` and ``sign``.

    Attributes:
        recent: what the commits of one process have read and written; without it each fetches everything.
    """

    layout: Layout
    settings: Settings
    verify: Verify
    sign: Sign
    recent: Recent = field(default_factory=Recent)

    def read(self, nested: Nested) -> Flow[bytes]:
        """The bytes of a catalog's SQLite file, verified."""
        return get_catalog(self.layout, nested, self.recent)

    def load(self, nested: Nested) -> Flow[Catalog]:
        """The catalog itself."""
        return Catalog.parse((yield from self.read(nested)))


@dataclass(frozen=True, slots=True)
class Submission:
    """A change set whose objects are all in the store.

    Attributes:
        epoch: of garbage collection, read before the first object was looked for or uploaded.
        base: the head that the change set was made against.
    """

    change_set: ChangeSet
    epoch: int
    base: Head


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a change set; ``root`` is the root catalog that names it, ``error`` why it was rejected."""

    outcome: Outcome
    root: Digest
    error: Rejected | None = None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Fold:
    """A new revision that is ready to be stored."""

    manifest: Manifest  # without the reflog's hash
    objects: dict[ObjectId, bytes]  # catalogs, the history, and what catalogs need besides
    outcomes: dict[str, Outcome]
    warnings: tuple[str, ...]


def commit(
    committer: Committer, submissions: Sequence[Submission], head: Head | None = None
) -> Flow[dict[str, Decision]]:
    """Decides all submissions, by change set. ``head`` saves reading it if it was read already.

    Raises Busy if others publish all the time or garbage collection is in the way; nothing is decided then.
    """
    for attempt in range(_ATTEMPTS):
        if head is None:
            head = yield from read_head(committer.layout, committer.verify, committer.recent)
        try:
            return (yield from _round(committer, submissions, head))
        except Changed:
            head = None
            yield from flows.sleep(random.uniform(0, min(0.05 * 2**attempt, _LONGEST_PAUSE)))
    raise Busy(f"others publish to {committer.layout.fqrn} all the time; nothing was published")


def preview(committer: Committer, submission: Submission, head: Head) -> Flow[tuple[Outcome, int, tuple[str, ...]]]:
    """What committing would decide, how many objects it would store, and its warnings. Raises Rejected."""
    rejected: dict[str, Rejected] = {}
    kept = yield from _kept(committer.layout, _landed(head))
    fold = yield from _fold(committer, [submission], head, kept, rejected)
    if fold is None:
        raise rejected[submission.change_set.id]
    return fold.outcomes[submission.change_set.id], len(fold.objects), fold.warnings


def _round(committer: Committer, submissions: Sequence[Submission], head: Head) -> Flow[dict[str, Decision]]:
    landed = _landed(head)
    decided = {
        submission.change_set.id: Decision(landed[submission.change_set.id], head.manifest.root)
        for submission in submissions
        if submission.change_set.id in landed
    }
    waiting = [submission for submission in submissions if submission.change_set.id not in landed]
    waiting.sort(key=lambda submission: paths.components(submission.change_set.path))
    kept = yield from _kept(committer.layout, landed)
    rejected: dict[str, Rejected] = {}
    while True:
        fold = yield from _fold(committer, waiting, head, kept, rejected)
        if fold is None:
            break
        collected = yield from _store(committer, waiting, fold)
        if not collected:
            yield from _advance(committer, head, fold)
            decided |= {
                key: Decision(outcome, fold.manifest.root, warnings=fold.warnings)
                for key, outcome in fold.outcomes.items()
                if key not in kept
            }
            break
        rejected |= collected
    for key, error in rejected.items():
        decided[key] = Decision(Outcome("rejected", error.reason, head.manifest.revision), head.manifest.root, error)
    return decided


def _landed(head: Head) -> dict[str, Outcome]:
    with Catalog.parse(head.root) as root:
        return outcomes.parse(root.get_property(outcomes.PROPERTY))


def _kept(layout: Layout, landed: Mapping[str, Outcome]) -> Flow[dict[str, Outcome]]:
    """The outcomes that the next revision carries on."""
    if len(landed) <= _KEPT_OUTCOMES:
        return dict(landed)
    unanswered = yield from flows.missing(layout.receipt(key) for key in landed)
    return {key: outcome for key, outcome in landed.items() if layout.receipt(key) in unanswered}


def _fold(
    committer: Committer,
    waiting: Sequence[Submission],
    head: Head,
    kept: Mapping[str, Outcome],
    rejected: dict[str, Rejected],
) -> Flow[_Fold | None]:
    """The new revision with all that can be applied; what cannot goes to ``rejected``. None if nothing is left."""
    timestamp = max(int((yield from flows.now()).timestamp()), head.manifest.timestamp)
    while True:
        batch = [submission for submission in waiting if submission.change_set.id not in rejected]
        if not batch:
            return None
        editor = Editor(Catalog.parse(head.root), head.manifest.root, committer.load, timestamp * 1_000_000_000)
        try:
            return (yield from _apply(committer, batch, head, kept, rejected, editor, timestamp))
        except Rejected:
            continue  # half of it is in the editor: again without it
        finally:
            editor.close()


def _apply(
    committer: Committer,
    batch: Sequence[Submission],
    head: Head,
    kept: Mapping[str, Outcome],
    rejected: dict[str, Rejected],
    editor: Editor,
    timestamp: int,
) -> Flow[_Fold]:
    revision = head.manifest.revision + 1
    decided = dict(kept)
    for submission in batch:
        change_set = submission.change_set
        try:
            yield from _check_base(committer, submission, head)
            counts = yield from editor.apply(change_set.changes, change_set.path)
            if editor.dirtab_changed:
                yield from _check_dirtab(committer, editor)
        except Rejected as error:
            rejected[change_set.id] = error
            raise
        decided[change_set.id] = _published(change_set, revision, counts)
    change_sets = [submission.change_set for submission in batch]
    properties = {
        outcomes.PROPERTY: outcomes.pack(decided),
        "stratus.writer": ", ".join(dict.fromkeys(change_set.writer for change_set in change_sets)),
        "stratus.message": "\n".join(change_set.message for change_set in change_sets if change_set.message),
        "stratus.change_set": ", ".join(change_set.id for change_set in change_sets),
        "TTL": str(committer.settings.ttl),
    }
    algorithm = committer.settings.algorithm
    made = Made(algorithm, timestamp * 1_000_000_000)
    yield from _look_after(committer, editor, made)
    catalogs = yield from editor.finish(algorithm, revision, timestamp, properties)
    root = catalogs[-1]
    manifest = replace(
        head.manifest,
        root=root.id.digest,
        root_size=root.size,
        ttl=committer.settings.ttl,
        revision=revision,
        timestamp=timestamp,
        garbage_collectable=committer.settings.garbage_collectable,
        reflog=None,
    )
    with History.create(manifest.fqrn) if head.history is None else History.parse(head.history, sound=True) as history:
        yield from tag_revision(history, manifest, change_sets, committer.settings, committer.read, rejected)
        history_id, stored = packed_history(history, algorithm, head.manifest.history)
    manifest = replace(manifest, history=history_id.digest)
    objects = {catalog.id: catalog.stored for catalog in catalogs} | {history_id: stored}
    if made.markers:
        objects[made.empty] = EMPTY
    return _Fold(manifest, objects, decided, tuple(made.warnings))


def _look_after(committer: Committer, editor: Editor, made: Made) -> Flow[None]:
    """The structure of catalogs: markers, dirtab, balance."""
    rules = None
    try:
        rules = yield from _dirtab(committer, editor)
    except (BadFormat, NotFound) as error:
        made.warnings.append(f"the dirtab is ignored: {error}")
    weight = committer.settings.catalog_weight
    yield from editor.look_after(made, rules, Weights.of(weight) if weight else None)


def _dirtab(committer: Committer, editor: Editor) -> Flow[Dirtab | None]:
    entry = editor.dirtab_entry
    return None if entry is None else Dirtab.parse((yield from get_content(committer.layout, entry)))


def _check_dirtab(committer: Committer, editor: Editor) -> Flow[None]:
    """Raises Rejected if the dirtab that is being published cannot be understood."""
    try:
        yield from _dirtab(committer, editor)
    except BadFormat as error:
        raise Rejected(str(error), reason="bad_dirtab", hint=error.hint, path=dirtab.PATH) from error


def _published(change_set: ChangeSet, revision: int, counts: Counts) -> Outcome:
    usage = change_set.usage
    return Outcome(
        "published",
        "",
        revision,
        (counts.added, counts.changed, counts.removed),
        (usage.new_objects, usage.present_objects),
        (usage.plain_bytes, usage.stored_bytes, usage.uploaded_bytes),
    )


def _check_base(committer: Committer, submission: Submission, head: Head) -> Flow[None]:
    """A change set that removes was made by looking at the tree: what it looked at must not have changed since."""
    change_set = submission.change_set
    if submission.base.manifest.root == head.manifest.root:
        return
    if not any(isinstance(change, Remove) for change in change_set.changes):
        return
    with Catalog.parse(submission.base.root) as old, Catalog.parse(head.root) as new:
        same = yield from same_below(change_set.path, old, new, committer.load)
    if not same:
        raise Rejected(
            f"somebody else changed {paths.display(change_set.path)} meanwhile",
            reason="stale_base",
            hint="publish again: it starts from the new revision",
            path=change_set.path,
        )


def _store(committer: Committer, waiting: Sequence[Submission], fold: _Fold) -> Flow[dict[str, Rejected]]:
    """Stores catalogs and history and meanwhile asks whether objects may have been collected; gives whose were."""
    layout = committer.layout
    items = [Item(layout.object(object_id), stored) for object_id, stored in fold.objects.items()]
    _, state = yield from flows.both(flows.put_many(items), flows.get(layout.collection))
    collection = records.parse(state.data, Collection)
    collected = {}
    for submission in waiting:
        change_set = submission.change_set
        if submission.epoch == collection.n or change_set.id not in fold.outcomes:
            continue
        if collection.phase != "quiet":
            raise Busy("garbage collection is running", hint="publish again in a few minutes")
        gone = yield from flows.missing(layout.object(object_id) for object_id in change_set.objects)
        if gone:
            collected[change_set.id] = Rejected(
                f"{len(gone)} objects were collected while the change set was made",
                reason="objects_collected",
                hint="publish again: they are uploaded anew",
                path=change_set.path,
            )
    return collected


def _advance(committer: Committer, head: Head, fold: _Fold) -> Flow[None]:
    """Reflog, then manifest. Raises Changed if somebody else was faster."""
    layout = committer.layout
    yield from flows.sync()
    reflog = yield from log_references(layout, fold.manifest, head.reflog, head.reflog_version, sound=head.reflog_sound)
    yield from swap(layout, head.version, committer.sign(replace(fold.manifest, reflog=reflog.digest)))
    committer.recent.reflog = reflog
    for object_id, stored in fold.objects.items():
        committer.recent.keep(object_id, stored)
