"""History and reflog: that they open, agree with the manifest, and name what is there."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterator

from stratus.errors import BadFormat, NotFound
from stratus.formats import databases
from stratus.formats.compression import Compression
from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.formats.history import TRUNK, Tag
from stratus.formats.manifest import Manifest
from stratus.formats.reflog import Reflog
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.upkeep.check_objects import fetch
from stratus.upkeep.check_problems import LookedAt, Problem, Wanted

_TAGS = "SELECT name, hash, revision, timestamp, size, description, branch FROM tags"
_TAG_TYPES = (str, str, int, int, int, str, str)


def check_history(
    store: Store, layout: Layout, manifest: Manifest, looked_at: LookedAt
) -> Generator[Problem | Wanted, None, list[Tag]]:
    """The tag database, if the manifest names one; wants the root catalogs of the tags, and gives the sound tags."""
    if manifest.history is None:
        return []
    object_id = ObjectId(manifest.history, Suffix.HISTORY)
    plain = yield from fetch(store, layout, object_id, looked_at)
    if plain is None:
        return []
    try:
        database = databases.parse(plain, "history", "3", _TAGS)
    except (BadFormat, UnicodeError) as error:
        yield Problem("bad_history", f"object {object_id}: {error}")
        return []
    with contextlib.closing(database):
        fqrn = databases.property_text(database, "fqrn")
        if fqrn != manifest.fqrn:
            yield Problem("wrong_name", f"the history {object_id} is that of {fqrn!r}")
        try:
            branches = yield from _branches(database)
            tags = yield from _tags(database, branches)
        except (sqlite3.Error, UnicodeError) as error:
            yield Problem("bad_history", f"object {object_id}: {error}")
            return []
    yield from _trunk(tags, manifest)
    for tag in tags:
        yield Wanted(ObjectId(tag.root, Suffix.CATALOG), Compression.ZLIB, tag.size if tag.size > 0 else None, None)
    return tags


def _branches(database: sqlite3.Connection) -> Generator[Problem, None, dict[str, int]]:
    """The branches with their initial revisions."""
    found = list(database.execute("SELECT branch, parent, initial_revision FROM branches"))
    names = {branch for branch, _, _ in found}
    if "" not in names:
        yield Problem("bad_branch", "the history has no default branch")
    for branch, parent, revision in found:
        if (branch == "") != (parent is None) or (parent is not None and parent not in names):
            yield Problem("bad_branch", f"branch {branch!r} comes from {parent!r}")
        if not isinstance(revision, int):
            yield Problem("bad_branch", f"branch {branch!r} begins at revision {revision!r}")
    used = {branch for (branch,) in database.execute("SELECT DISTINCT branch FROM tags")}
    for branch in sorted(map(str, names - used)):
        yield Problem("bad_branch", f"branch {branch!r} has no tag")
    return {branch: revision if isinstance(revision, int) else 0 for branch, _, revision in found}


def _tags(database: sqlite3.Connection, branches: dict[str, int]) -> Generator[Problem, None, list[Tag]]:
    tags = []
    for values in database.execute(f"{_TAGS} ORDER BY name"):
        name, root, revision, timestamp, size, description, branch = values
        if not all(isinstance(value, kind) for value, kind in zip(values, _TAG_TYPES, strict=True)):
            yield Problem("bad_tag", f"tag {name!r} has a value that is missing or of a wrong type")
            continue
        try:
            tags.append(Tag(name, Digest.parse(root), revision, timestamp, size, description, branch))
        except BadFormat as error:
            yield Problem("bad_tag", f"tag {name!r}: {error.message}")
            continue
        if size < 0:
            yield Problem("bad_tag", f"tag {name!r} names a root catalog of {size} bytes")
        if branch not in branches:
            yield Problem("bad_tag", f"tag {name!r} is on branch {branch!r}, which there is not")
        elif revision < branches[branch]:
            yield Problem("bad_tag", f"tag {name!r} names revision {revision}, before the begin of its branch")
    return tags


def _trunk(tags: list[Tag], manifest: Manifest) -> Iterator[Problem]:
    trunk = next((tag for tag in tags if tag.name == TRUNK and not tag.branch), None)
    if trunk is None:
        yield Problem("wrong_trunk", f"the history has no sound tag {TRUNK!r}")
    elif (trunk.root, trunk.revision) != (manifest.root, manifest.revision) or (
        manifest.root_size and trunk.size != manifest.root_size
    ):
        yield Problem(
            "wrong_trunk",
            f"{TRUNK} is revision {trunk.revision}, root {trunk.root}, {trunk.size} bytes; the manifest has revision "
            f"{manifest.revision}, root {manifest.root}, {manifest.root_size} bytes",
        )
    for tag in tags:
        if not tag.branch and tag.revision > manifest.revision:
            yield Problem("bad_tag", f"tag {tag.name!r} names revision {tag.revision}, which is yet to come")


def check_reflog(store: Store, layout: Layout, manifest: Manifest) -> Iterator[Problem]:
    """The reflog against the manifest.

    A checksum that differs alone means little: a collection, or a publish that died before its manifest, leaves a
    reflog that is sound and holds all that the manifest names.
    """
    try:
        data = store.get(layout.reflog).data
    except NotFound:
        if manifest.reflog is not None:
            yield Problem("missing_reflog", f"there is no {layout.reflog}, but the manifest names its checksum")
        return
    troubles = list(_reflog(data, manifest))
    yield from troubles
    if manifest.reflog is None:
        yield Problem("reflog_checksum", "the manifest has no checksum of the reflog")
        return
    found = manifest.reflog.algorithm.digest(data)
    if found == manifest.reflog:
        return
    what = f"the reflog has the checksum {found}, the manifest says {manifest.reflog}"
    if troubles:
        yield Problem("reflog_checksum", what)
    else:
        yield Problem("stale_reflog", f"{what}; the next revision repairs it", severity="warning")


def _reflog(data: bytes, manifest: Manifest) -> Iterator[Problem]:
    try:
        with Reflog.parse(data) as reflog:
            if reflog.fqrn != manifest.fqrn:
                yield Problem("wrong_name", f"the reflog is that of {reflog.fqrn!r}")
            held = {(ref.kind.name, ref.digest) for ref in reflog.refs()}
    except (BadFormat, sqlite3.Error, UnicodeError) as error:
        yield Problem("bad_reflog", f"the reflog: {error}")
        return
    for kind, digest in (
        ("CATALOG", manifest.root),
        ("CERTIFICATE", manifest.certificate),
        ("HISTORY", manifest.history),
        ("META_INFO", manifest.meta_info),
    ):
        if digest is not None and (kind, digest) not in held:
            what = kind.lower().replace("_", "-")
            yield Problem("reflog_lacks", f"the reflog does not hold the {what} {digest} of the manifest")
