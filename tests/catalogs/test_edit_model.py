"""Random edits, against a dictionary: the tree is what the dictionary says, and every catalog is sound."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stratus.catalogs.structure import MARKER
from stratus.formats import paths
from stratus.formats.changes import Put, Remove
from stratus.formats.entries import Entry, Kind
from tests.catalogs.workshop import Workshop, directory, file, marker, symlink

_names = st.sampled_from([b"a", b"b", b"-", b"\xff", b"a.b"])
_paths = st.lists(_names, min_size=1, max_size=4).map(paths.join)


@st.composite
def _steps(draw: st.DrawFn) -> list[tuple[str, bytes, int]]:
    kinds = st.sampled_from(["file", "directory", "symlink", "links", "mark", "unmark", "remove"])
    return draw(st.lists(st.tuples(kinds, _paths, st.integers(0, 3)), min_size=1, max_size=12))


def _wanted(step: tuple[str, bytes, int]) -> list[Entry]:
    kind, path, number = step
    if kind == "file":
        return [file(path, b"%d" % number, xattrs=((b"user.n", b"%d" % number),) if number else ())]
    if kind == "directory":
        return [directory(path, 0o700 + number)]
    if kind == "symlink":
        return [symlink(path, b"%d" % number)]
    if kind == "mark":
        return [directory(path), marker(path)]
    return [file(path + suffix, group=1 + number) for suffix in (b"1", b"2")]


def _change_set(model: dict[bytes, Entry], steps: list[tuple[str, bytes, int]]) -> list[Put | Remove]:
    """Applies the steps to the model, and gives the records that should do the same to the tree."""
    entries: dict[bytes, Entry] = {}
    removals: set[bytes] = set()
    for number, step in enumerate(steps):
        kind, path, _ = step
        if kind in ("remove", "unmark"):
            path = path + b"/" + MARKER if kind == "unmark" else path
            if path in model and not any(
                paths.contains(path, known) or paths.contains(known, path) for known in entries
            ):
                removals = {known for known in removals if not paths.contains(path, known)} | {path}
                for known in [known for known in model if paths.contains(path, known)]:
                    del model[known]
            continue
        for entry in _wanted(step):
            if any(
                path in model and model[path].kind is not Kind.DIRECTORY for path in paths.ancestors(entry.path)[1:]
            ):
                continue
            if entry.path in model and model[entry.path].kind is not entry.kind:
                continue
            if any(paths.contains(removed, entry.path) for removed in removals):
                continue
            if any(known.group and known.path == entry.path for known in entries.values()):
                continue
            for ancestor in paths.ancestors(entry.path)[1:]:
                model.setdefault(ancestor, replace(directory(ancestor), mtime_ns=99_000_000_000))
            entry = replace(entry, group=entry.group and entry.group + 10 * number)
            model[entry.path] = entries[entry.path] = entry
    changes: list[Put | Remove] = [Put(entry) for entry in entries.values()]
    changes += [Remove(path, recursive=True) for path in removals]
    return sorted(changes, key=lambda change: paths.components(_path_of(change)))


def _path_of(change: Put | Remove) -> bytes:
    return change.entry.path if isinstance(change, Put) else change.path


@settings(max_examples=150, deadline=None)
@given(st.lists(_steps(), min_size=1, max_size=4))
def test_a_tree_is_what_was_put_into_it(change_sets: list[list[tuple[str, bytes, int]]]) -> None:
    workshop = Workshop()
    model: dict[bytes, Entry] = {}
    for steps in change_sets:
        workshop.edit(_change_set(model, steps))
        workshop.verify()
        rows = workshop.rows()
        assert {path: replace(row.entry, group=0) for path, row in rows.items()} == {
            path: replace(entry, group=0) for path, entry in model.items()
        }
        marked = {paths.parent(path) for path in model if paths.name(path) == MARKER}
        assert workshop.nested() == marked
