"""What a commit does to the history: the head moves, tags come and go, automatic tags are bounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from stratus.errors import NotFound, Rejected
from stratus.formats import changes
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.changes import Change, ChangeSet, Untag
from stratus.formats.history import TRUNK, TRUNK_PREVIOUS, History, Tag
from stratus.formats.manifest import Manifest
from stratus.formats.records import Settings
from stratus.stores.flows import Flow

_AUTOMATIC_PREFIX = "generic"
_AUTOMATIC = re.compile(rf"{_AUTOMATIC_PREFIX}(_[0-9]+)?-[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T.*")
ReadCatalog = Callable[[Nested], Flow[bytes]]
"""Gives the bytes of a catalog's SQLite file, verified."""
_LONGEST_WAY = 1000  # predecessors that are followed to find an untagged revision


class Noted(msgspec.Struct):
    """Records on their way to somebody else, and what of them is noted meanwhile.

    Attributes:
        tags: what they say of tags.
        changed: whether they say something of the tree.
    """

    records: Iterable[Change]
    tags: list[changes.Tag | Untag] = msgspec.field(default_factory=list)
    changed: bool = False

    def __iter__(self) -> Iterator[Change]:
        for change in self.records:
            if isinstance(change, changes.Tag | Untag):
                self.tags.append(change)
            else:
                self.changed = True
            yield change


def tag_revision(
    history: History,
    manifest: Manifest,
    change_sets: Sequence[ChangeSet],
    noted: Mapping[str, Noted],
    settings: Settings,
    read: ReadCatalog,
    rejected: dict[str, Rejected],
) -> Flow[None]:
    """Writes the new revision, which ``manifest`` names, and what the change sets say of tags into the history.

    ``noted`` is what was noted of their records. A change set whose tags cannot be made goes to ``rejected``, and
    Rejected is raised.
    """
    before = history.find(TRUNK)
    head = Tag(TRUNK, manifest.root, manifest.revision, manifest.timestamp, manifest.root_size, "current HEAD")
    for change_set in change_sets:
        try:
            own = [changes.Tag(change_set.tag, None, change_set.message)] if change_set.tag else []
            for change in [*noted[change_set.id].tags, *own]:
                if isinstance(change, Untag):
                    _remove(history, change.name)
                else:
                    tag = yield from _tagged(history, change, head, before, read)
                    _add(history, tag)
        except Rejected as error:
            rejected[change_set.id] = error
            raise
    named = any(change_set.tag for change_set in change_sets)
    changed = any(noted[change_set.id].changed for change_set in change_sets)
    if settings.auto_tags and changed and not named:
        _add_automatic(history, head, settings.auto_tag_limit)
    history.advance(head)


def _tagged(history: History, change: changes.Tag, head: Tag, before: Tag | None, read: ReadCatalog) -> Flow[Tag]:
    """The tag for a revision: the new one, one that has a tag, or one that the chain of predecessors leads to."""
    if change.revision is None or change.revision == head.revision:
        return replace(head, name=change.name, description=change.description)
    known = history.revision(change.revision)
    if known is not None:
        return replace(known, name=change.name, description=change.description)
    found = None if before is None else Nested(b"", before.root, 0)
    for _ in range(_LONGEST_WAY):
        if found is None:
            break
        try:
            data = yield from read(found)
            with Catalog.parse(data) as catalog:
                if catalog.revision == change.revision:
                    made = catalog.last_modified
                    return Tag(change.name, found.digest, catalog.revision, made, len(data), change.description)
                if catalog.revision < change.revision:
                    break
                found = None if catalog.previous is None else Nested(b"", catalog.previous, 0)
        except NotFound:
            break
    raise Rejected(
        f"there is no revision {change.revision}",
        reason="unknown_revision",
        hint="see `stratus log` for those there are",
    )


def _add(history: History, tag: Tag) -> None:
    if tag.name in (TRUNK, TRUNK_PREVIOUS):
        raise Rejected(f"{tag.name} is kept by stratus itself", reason="reserved_tag", hint="choose another name")
    if history.find(tag.name) is not None:
        raise Rejected(
            f"there is a tag {tag.name} already",
            reason="tag_exists",
            hint="choose another name, or remove that tag first",
        )
    history.put(tag)


def _remove(history: History, name: str) -> None:
    if name in (TRUNK, TRUNK_PREVIOUS) or history.find(name) is None:
        raise Rejected(
            f"there is no tag {name} that could be removed", reason="unknown_tag", hint="see `stratus tag list`"
        )
    history.remove(name)


def _add_automatic(history: History, head: Tag, limit: int) -> None:
    """Adds the tag that is made of the time, in the form of the stock tools, and removes the oldest over the limit."""
    time = datetime.fromtimestamp(head.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name, number = f"{_AUTOMATIC_PREFIX}-{time}", 1
    while history.find(name) is not None:
        number += 1
        name = f"{_AUTOMATIC_PREFIX}_{number}-{time}"
    history.put(replace(head, name=name, description=""))
    automatic = [tag for tag in history.tags(_AUTOMATIC_PREFIX) if _AUTOMATIC.fullmatch(tag.name)]
    for tag in sorted(automatic, key=lambda tag: -tag.revision)[limit:]:
        history.remove(tag.name)
