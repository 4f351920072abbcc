"""New sub trees are attached as catalogs that the writer made; what is seen and counted stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from stratus.catalogs.balance import AUTOMATIC_MARKER
from stratus.catalogs.structure import MARKER
from stratus.costs.meter import Meter
from stratus.formats import paths
from stratus.formats.changes import Attach, ChangeSet, Put, Remove
from stratus.formats.entries import Row
from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.stores.contract import Store
from stratus.writers.attaching import NewCatalogs
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, forecast, publish
from tests.repositories import FQRN, Files, content, new_repository, problems, put, reader, writer

WEIGHT = 50  # rows of a catalog; from 5 on a new directory is attached
NAMES = {MARKER.decode(), AUTOMATIC_MARKER.decode()}
TREE: dict[str, bytes | None] = {
    **{f"big/{number % 3}/{number}": b"%d" % number for number in range(60)},
    "big/2/deep/er": b"x",
    "small/a": b"a",
    "empty": None,
    "top": b"t",
}


@pytest.fixture
def store() -> Store:
    return new_repository(settings=Settings(catalog_weight=WEIGHT))


def submitted(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, bytes | None],
    path: bytes = b"",
    options: Options = Options(),
) -> tuple[Receipt, list[Attach | Put | Remove]]:
    """The receipt, and what was submitted; the forecast says the same as the receipt."""
    seen: list[Any] = []
    submit = DirectWriter.submit

    def noting(self: DirectWriter, change_set: ChangeSet) -> str:
        seen.extend(change_set.changes)
        return submit(self, change_set)

    predicted = forecast(writer(store), FQRN, path, [Files(files)], "tester", options)
    monkeypatch.setattr(DirectWriter, "submit", noting)
    meter = Meter()
    receipt = publish(writer(store.observed(meter)), FQRN, path, [Files(files)], "tester", options)
    monkeypatch.undo()
    assert predicted.entries == receipt.entries
    assert predicted.objects == receipt.objects
    assert predicted.bytes == receipt.bytes
    assert predicted.requests == receipt.requests == meter.requests
    assert problems(store, data=True) == []
    return receipt, seen


def attached(changes: list[Attach | Put | Remove]) -> set[bytes]:
    return {change.entry.path for change in changes if isinstance(change, Attach)}


def visible(store: Store) -> dict[str, bytes | None]:
    """What is there, without markers."""
    return {path: data for path, data in content(store).items() if path.rpartition("/")[2] not in NAMES}


def rows(store: Store) -> dict[bytes, Row]:
    with reader(store).at() as revision:
        return {row.entry.path: row for row in revision.tree.walk()}


def test_a_new_directory_with_much_in_it_is_attached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, changes = submitted(store, monkeypatch, TREE)
    assert attached(changes) == {b"/big"}
    assert {change.entry.path for change in changes if isinstance(change, Put)} == {b"/small/a", b"/empty", b"/top"}
    assert receipt.entries.added == 63 + 7  # files, directories; no markers
    assert {name for name in content(store) if name.startswith("big/.cvmfs")} == {"big/" + name for name in NAMES}


def test_the_same_tree_comes_of_it_as_row_by_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = put(store, TREE, b"/sw/here")
    other = new_repository(settings=Settings(catalog_weight=WEIGHT))
    monkeypatch.setattr(NewCatalogs, "wants", lambda self, directory: False)
    assert put(other, TREE, b"/sw/here").entries == receipt.entries
    assert visible(store) == visible(other)


def test_a_root_is_never_attached_but_what_is_in_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, bytes | None] = {f"{top}/{number}": b"1" for top in "ab" for number in range(10)}
    _, changes = submitted(store, monkeypatch, files)
    assert attached(changes) == {b"/a", b"/b"}


def test_where_something_is_already_only_what_is_new_is_attached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, {"big/1/other": b"o", "big/x": b"x"})
    _, changes = submitted(store, monkeypatch, TREE)
    assert attached(changes) == {b"/big/0", b"/big/2"}
    assert visible(store) == {**visible_of(TREE), "big/1/other": b"o", "big/x": b"x"}


def visible_of(files: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """What publishing these to the root shows."""
    found = dict(files)
    for path in files:
        for above in paths.ancestors(b"/" + path.encode())[1:]:
            found[above[1:].decode()] = None
    return found


def test_a_file_makes_way_for_what_is_attached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, {"big": b"a file"})
    receipt, changes = submitted(store, monkeypatch, {"big": None, **TREE})
    assert changes[0] == Remove(b"/big", recursive=True)
    assert attached(changes) == {b"/big"}
    assert receipt.entries.removed == 1
    assert visible(store) == visible_of(TREE)


def test_the_same_again_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, TREE, b"/sw")
    before = rows(store)
    for options in (Options(), Options(replace=True)):
        receipt, changes = submitted(store, monkeypatch, TREE, b"/sw", options)
        assert (receipt.entries.added, receipt.entries.changed, receipt.entries.removed) == (0, 0, 0)
        assert changes == []
    assert rows(store) == before


def test_a_path_that_shall_be_a_catalog_is_attached_without_more_markers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes | None] = {f"{number}": b"1" for number in range(20)}
    _, changes = submitted(store, monkeypatch, files, b"/sw", Options(catalog=True))
    assert attached(changes) == {b"/sw"}
    assert set(content(store)) == {"sw", "sw/.cvmfscatalog", *(f"sw/{name}" for name in files)}


def test_without_balancing_only_marked_directories_are_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_repository(settings=Settings(catalog_weight=0))
    many: dict[str, bytes | None] = {f"{top}/{number}": b"" for top in ("marked", "plain") for number in range(500)}
    _, changes = submitted(store, monkeypatch, many | {"marked/.cvmfscatalog": b""})
    assert attached(changes) == {b"/marked"}
    assert set(content(store)) == {"marked", "plain", "marked/.cvmfscatalog", *many}


def test_the_dirtab_is_followed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, {".cvmfsdirtab": b"/big/*\n!/big/1\n"})
    submitted(store, monkeypatch, TREE)
    nested = {row.entry.path for row in rows(store).values() if row.transition.name == "MOUNTPOINT"}
    assert nested == {b"/big", b"/big/0", b"/big/2"}


def test_nothing_is_attached_together_with_a_new_dirtab(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    monkeypatch.setattr(NewCatalogs, "make", lambda self, directory, owner: made.append(directory))
    put(store, {".cvmfsdirtab": b"/big/0\n", **TREE})
    assert made == []
    assert {"big/0/.cvmfscatalog"} <= content(store).keys()


def test_attached_directories_nobody_named_belong_to_the_owner_of_the_path(store: Store) -> None:
    files: dict[str, bytes | None] = {f"d/e/{number}": b"1" for number in range(20)}
    put(store, files, b"/sw", Options(owner=(5, 6)))
    assert {(row.entry.uid, row.entry.gid) for path, row in rows(store).items() if not path.endswith(b"catalog")} == {
        (0, 0)
    }
