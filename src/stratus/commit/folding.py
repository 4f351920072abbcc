"""Folding change sets into catalogs: what a new revision of a repository is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from stratus.catalogs.balance import Weights
from stratus.catalogs.edit import Counts, Editor
from stratus.catalogs.structure import EMPTY, Made
from stratus.catalogs.workbench import StoredCatalog
from stratus.commit.parts import Part, Slice, end_part, read_part, write_part
from stratus.commit.tags import Noted, tag_revision
from stratus.errors import BadFormat, NotFound, Rejected
from stratus.formats import dirtab, outcomes
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Change, ChangeSet
from stratus.formats.dirtab import Dirtab
from stratus.formats.hashes import Digest, ObjectId
from stratus.formats.history import History
from stratus.formats.manifest import Manifest
from stratus.formats.outcomes import Outcome
from stratus.formats.records import Settings
from stratus.repository.fetching import get_catalog, get_content
from stratus.repository.head import (
    Head,
    Pointer,
    Sign,
    Verify,
    log_references,
    packed_history,
    read_named,
    read_pointer,
    swap,
)
from stratus.repository.layout import Layout
from stratus.repository.recent import Recent
from stratus.stores import flows
from stratus.stores.contract import Item
from stratus.stores.flows import Flow


class Revised(msgspec.Struct, frozen=True):
    """A revision that the next one is folded upon."""

    head: Head
    outcomes: Mapping[str, Outcome]

    @property
    def revision(self) -> int:
        return self.head.manifest.revision

    @property
    def root(self) -> str:
        return str(self.head.manifest.root)


class RepositoryTree(msgspec.Struct, frozen=True):
    """The catalogs of a repository, as what is committed to; keys stay inside ``verify`` and ``sign``.

    Attributes:
        recent: what the commits of one process have read and written; without it each fetches everything.
        parts: how far large change sets have come.
    """

    layout: Layout
    settings: Settings
    verify: Verify
    sign: Sign
    recent: Recent = msgspec.field(default_factory=Recent)
    parts: dict[str, Part] = msgspec.field(default_factory=dict)

    def pointer(self) -> Flow[Pointer]:
        return read_pointer(self.layout, self.verify)

    def head(self, pointer: Pointer) -> Flow[Revised]:
        return revised((yield from read_named(self.layout, pointer, self.recent)))

    def read(self, nested: Nested) -> Flow[bytes]:
        """The bytes of a catalog's SQLite file, verified."""
        return get_catalog(self.layout, nested, self.recent)

    def load(self, nested: Nested) -> Flow[Catalog]:
        """The catalog itself."""
        return Catalog.parse((yield from self.read(nested)))

    def work_off(self, head: Revised, change_set: ChangeSet, pause: Callable[[], bool]) -> Flow[bool]:
        part = self.parts.get(change_set.id) or (yield from read_part(self.layout, change_set.id))
        if part is None or part.on != head.root:
            part = Part(head.root, head.root, len(head.head.root))
        if not part.finished:
            try:
                part = yield from self._next_part(head.head, change_set, part, pause)
            except Rejected:
                return True  # as folding it will find
            yield from write_part(self.layout, change_set.id, part, (yield from flows.now()))
        self.parts[change_set.id] = part
        return part.finished

    def _next_part(self, head: Head, change_set: ChangeSet, part: Part, pause: Callable[[], bool]) -> Flow[Part]:
        """Applies some more records and stores the catalogs that come of it. Raises Rejected."""
        now = yield from flows.now()
        timestamp = max(int(now.timestamp()), head.manifest.timestamp)
        editor = yield from self._editor(head, part, timestamp)
        try:
            some = Slice(change_set, part.position, pause)
            counts = yield from editor.apply(_readable(some), change_set.path)
            if editor.dirtab_changed:
                yield from _check_dirtab(self, editor)
            made = Made(self.settings.algorithm, timestamp * 1_000_000_000)
            yield from _look_after(self, editor, made)
            catalogs = yield from editor.finish(
                self.settings.algorithm, head.manifest.revision + 1, timestamp, {"TTL": str(self.settings.ttl)}
            )
        finally:
            editor.close()
        objects = {catalog.id: catalog.stored for catalog in catalogs}
        if made.markers:
            objects[made.empty] = EMPTY
        yield from flows.put_many([Item(self.layout.object(one), stored) for one, stored in objects.items()])
        for object_id, stored in objects.items():
            self.recent.keep(object_id, stored)
        root = catalogs[-1]
        added, changed, removed = part.counts
        sums = (added + counts.added, changed + counts.changed, removed + counts.removed)
        return Part(part.on, str(root.id.digest), root.size, some.position, sums, some.finished)

    def _editor(self, head: Head, part: Part | None, timestamp: int) -> Flow[Editor]:
        """For the head's tree, or what has been made of it; the predecessor of what comes out is the head."""
        root = head.root
        if part is not None and part.root != str(head.manifest.root):
            root = yield from self.read(Nested(b"", Digest.parse(part.root), part.size))
        return Editor(Catalog.parse(root), head.manifest.root, self.load, timestamp * 1_000_000_000)

    def fold(
        self,
        head: Revised,
        batch: Sequence[ChangeSet],
        kept: Mapping[str, Outcome],
        rejected: Mapping[str, Rejected],
    ) -> Flow[NewRevision]:
        errors = dict(rejected)
        now = yield from flows.now()
        timestamp = max(int(now.timestamp()), head.head.manifest.timestamp)
        while True:
            left = [change_set for change_set in batch if change_set.id not in errors]
            part = self.parts.get(left[0].id) if len(left) == 1 else None
            part = None if part is None or part.on != head.root else part
            editor = yield from self._editor(head.head, part, timestamp)
            try:
                return (yield from self._apply(left, head.head, kept, errors, editor, timestamp, part))
            except _Again:
                continue  # half of what was rejected is in the editor
            finally:
                editor.close()

    def _apply(
        self,
        batch: Sequence[ChangeSet],
        head: Head,
        kept: Mapping[str, Outcome],
        errors: dict[str, Rejected],
        editor: Editor,
        timestamp: int,
        part: Part | None,
    ) -> Flow[NewRevision]:
        """``part`` is what has been applied of the only change set in the batch."""
        revision = head.manifest.revision + 1
        decided = {key: Outcome("rejected", error.reason, revision) for key, error in errors.items()}
        noted: dict[str, Noted] = {}
        for change_set in batch:
            try:
                records = noted[change_set.id] = Noted(_readable(change_set.changes))
                rest = iter(records) if part is None else islice(records, part.position, None)
                counts = yield from editor.apply(rest, change_set.path)
                if editor.dirtab_changed:
                    yield from _check_dirtab(self, editor)
            except Rejected as error:
                errors[change_set.id] = error
                raise _Again from error
            before = (0, 0, 0) if part is None else part.counts
            decided[change_set.id] = _published(change_set, revision, counts, before)
        algorithm = self.settings.algorithm
        made = Made(algorithm, timestamp * 1_000_000_000)
        yield from _look_after(self, editor, made)
        properties = _properties(batch, {**kept, **decided}, self.settings)
        catalogs = yield from editor.finish(algorithm, revision, timestamp, properties)
        root = catalogs[-1]
        manifest = replace(
            head.manifest,
            root=root.id.digest,
            root_size=root.size,
            ttl=self.settings.ttl,
            revision=revision,
            timestamp=timestamp,
            garbage_collectable=self.settings.garbage_collectable,
            reflog=None,
        )
        history, stored = yield from self._tag(batch, noted, head, manifest, errors)
        manifest = replace(manifest, history=history.digest)
        objects = {catalog.id: catalog.stored for catalog in catalogs} | {history: stored}
        if made.markers:
            objects[made.empty] = EMPTY
        all_outcomes, warnings = {**kept, **decided}, tuple(made.warnings)
        return NewRevision(self, head, manifest, root, objects, all_outcomes, decided, errors, warnings)

    def _tag(
        self,
        batch: Sequence[ChangeSet],
        noted: Mapping[str, Noted],
        head: Head,
        manifest: Manifest,
        errors: dict[str, Rejected],
    ) -> Flow[tuple[ObjectId, bytes]]:
        with (
            History.create(manifest.fqrn) if head.history is None else History.parse(head.history, sound=True)
        ) as history:
            try:
                yield from tag_revision(history, manifest, batch, noted, self.settings, self.read, errors)
            except Rejected as error:
                raise _Again from error
            return packed_history(history, self.settings.algorithm, head.manifest.history)


class _Again(Exception):
    """A change set was rejected: the others begin anew."""


class NewRevision(msgspec.Struct, frozen=True):
    """A revision that is ready to be stored.

    Attributes:
        manifest: without the reflog's hash.
        root: the root catalog.
        objects: catalogs, the history, and what catalogs need besides.
        all_outcomes: that its root names; ``outcomes`` those of the batch.
    """

    tree: RepositoryTree
    head: Head
    manifest: Manifest
    root: StoredCatalog
    objects: Mapping[ObjectId, bytes]
    all_outcomes: Mapping[str, Outcome]
    outcomes: Mapping[str, Outcome]
    errors: Mapping[str, Rejected]
    warnings: tuple[str, ...]

    def store(self) -> Flow[None]:
        layout = self.tree.layout
        yield from flows.put_many([Item(layout.object(one), stored) for one, stored in self.objects.items()])

    def advance(self) -> Flow[Revised]:
        tree, head = self.tree, self.head
        yield from flows.sync()
        reflog = yield from log_references(
            tree.layout, self.manifest, head.reflog, head.reflog_version, sound=head.reflog_sound
        )
        manifest = replace(self.manifest, reflog=reflog.digest)
        version = yield from swap(tree.layout, head.version, tree.sign(manifest))
        for change_set in self.outcomes:
            if tree.parts.pop(change_set, None) is not None:
                yield from end_part(tree.layout, change_set)
        tree.recent.reflog = reflog
        for object_id, stored in self.objects.items():
            tree.recent.keep(object_id, stored)
        tree.recent.keep(self.root.id, self.root.stored, self.root.plain)
        pointer = Pointer(manifest, version)
        return Revised((yield from read_named(tree.layout, pointer, tree.recent, self.root.plain)), self.all_outcomes)


def revised(head: Head) -> Revised:
    """A head, with what its root says became of change sets."""
    with Catalog.parse(head.root) as root:
        return Revised(head, outcomes.parse(root.get_property(outcomes.PROPERTY)))


def preview(tree: RepositoryTree, change_set: ChangeSet, head: Head) -> Flow[NewRevision]:
    """What committing would make of a change set; nothing is stored. Raises Rejected."""
    made = yield from tree.fold(revised(head), [change_set], {}, {})
    if made.errors:
        raise made.errors[change_set.id]
    return made


def _properties(batch: Sequence[ChangeSet], all_outcomes: Mapping[str, Outcome], settings: Settings) -> dict[str, str]:
    """What the root catalog says of the revision."""
    return {
        outcomes.PROPERTY: outcomes.pack(all_outcomes),
        "stratus.writer": ", ".join(dict.fromkeys(change_set.writer for change_set in batch)),
        "stratus.message": "\n".join(change_set.message for change_set in batch if change_set.message),
        "stratus.change_set": ", ".join(change_set.id for change_set in batch),
        "TTL": str(settings.ttl),
    }


def _readable(changes: Iterable[Change]) -> Iterator[Change]:
    """The records. Raises Rejected where they cannot be read."""
    try:
        yield from changes
    except BadFormat as error:
        raise Rejected(
            f"the change set cannot be read: {error}", reason="bad_change_set", hint="publish again"
        ) from error


def _look_after(tree: RepositoryTree, editor: Editor, made: Made) -> Flow[None]:
    """The structure of catalogs: markers, dirtab, balance."""
    rules = None
    try:
        rules = yield from _dirtab(tree, editor)
    except (BadFormat, NotFound) as error:
        made.warnings.append(f"the dirtab is ignored: {error}")
    weight = tree.settings.catalog_weight
    yield from editor.look_after(made, rules, Weights.of(weight) if weight else None)


def _dirtab(tree: RepositoryTree, editor: Editor) -> Flow[Dirtab | None]:
    entry = editor.dirtab_entry
    return None if entry is None else Dirtab.parse((yield from get_content(tree.layout, entry)))


def _check_dirtab(tree: RepositoryTree, editor: Editor) -> Flow[None]:
    """Raises Rejected if the dirtab that is being published cannot be understood.

    A forecast is made before it is in the store: there it is as if it had no rules.
    """
    try:
        with contextlib.suppress(NotFound):
            yield from _dirtab(tree, editor)
    except BadFormat as error:
        raise Rejected(str(error), reason="bad_dirtab", hint=error.hint, path=dirtab.PATH) from error


def _published(change_set: ChangeSet, revision: int, counts: Counts, before: tuple[int, int, int]) -> Outcome:
    usage = change_set.usage
    added, changed, removed = before
    return Outcome(
        "published",
        "",
        revision,
        (added + counts.added, changed + counts.changed, removed + counts.removed),
        (usage.new_objects, usage.present_objects),
        (usage.plain_bytes, usage.stored_bytes, usage.uploaded_bytes),
    )
