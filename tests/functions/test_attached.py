"""What `stratus check` would call a fault of a catalog is not attached."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stratus.formats.catalog import Catalog
from stratus.formats.changes import Attach, ChangeSet
from stratus.formats.counters import Counters, total
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.messages import LeaseGranted
from tests.functions.desk import LAYOUT, Desk, new_desk, of_changes, problem
from tests.repositories import reader
from tests.upkeep.faults import INNER, OUTER, Repository, sound
from tests.upkeep.test_check_catalogs import CATALOG_FAULTS, FILE_FAULTS, ROOT, renamed, row

ROW_FAULTS = [
    row("/sw/readme", "flags = flags | (1 << 20)"),
    row("/sw/readme", "mtimens = 1000000000"),
    row("/sw/readme", "hash = substr(hash, 1, 16)"),
    row("/sw/readme", "hash = NULL"),
    row("/sw/readme", "uid = NULL"),
    row("/sw/readme", "xattr = x'0200'"),
    row("/sw/readme", "symlink = 'elsewhere'"),
    row("/sw/readme", "hardlinks = 2"),
    row("/sw/readme", "hardlinks = 0"),
    renamed("/sw/readme", "x" * 256),
    "INSERT INTO chunks VALUES (md5a('/sw/readme'), md5b('/sw/readme'), 0, 6, zeroblob(20))",
    "DELETE FROM properties WHERE key = 'revision'",
    "INSERT INTO properties VALUES ('TTL', 'soon')",
    renamed("/sw/.cvmfscatalog", "marker"),
]


@pytest.fixture
def desk() -> Desk:
    return new_desk()


def attaching(desk: Desk, lease: LeaseGranted, repository: Repository) -> ChangeSet:
    """A change set that attaches the catalog at OUTER of another repository, with all that is below."""
    prefix = f"{repository.layout.public}data/"
    names = [stat.key.removeprefix(prefix) for stat in repository.store.list(prefix)]
    for name in names:
        desk.store.put(f"{LAYOUT.public}data/{name}", repository.store.get(f"{prefix}{name}").data)
    with Catalog.parse(repository.plain(ObjectId(repository.manifest.root, Suffix.CATALOG))) as root:
        top = root.row(OUTER)
        (nested,) = root.nested()
    assert top is not None
    attach = Attach(top.entry, top.links, nested.digest, nested.size, counters_of(sound()))
    return of_changes(lease, [attach], objects=tuple(ObjectId.parse(name.replace("/", "")) for name in names))


def counters_of(repository: Repository) -> Counters:
    with Catalog.parse(repository.plain(ObjectId(repository.manifest.root, Suffix.CATALOG))) as root:
        (nested,) = root.nested()
    with Catalog.parse(repository.plain(ObjectId(nested.digest, Suffix.CATALOG))) as outer:
        return total(outer.own, outer.below)


def refused(desk: Desk, repository: Repository) -> None:
    lease = desk.lease("/sw")
    found = problem(desk.submit(lease, attaching(desk, lease, repository)))
    assert (found.status, found.code, found.reason) == (422, "rejected", "bad_attach"), found
    assert list(desk.store.list(LAYOUT.queue())) == []


def test_sound_catalogs_are_attached_and_the_check_has_nothing_to_say(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.follow(desk.submit(lease, attaching(desk, lease, sound())))
    receipt = desk.receipt(lease.id)
    assert receipt is not None
    assert receipt.state == "published"
    with reader(desk.store).at() as revision:
        assert {INNER, INNER + b"/lib/large"} <= {entry.path for entry in revision.walk()}
    assert desk.problems(data=True) == []


@pytest.mark.parametrize("sql", ROW_FAULTS)
def test_a_fault_in_a_row_or_a_property_is_refused(desk: Desk, sql: str) -> None:
    repository = sound()
    repository.edit_catalog(OUTER, sql)
    assert repository.problems() != []
    refused(desk, repository)


OF_CATALOGS = [(catalog, sql) for _, _, catalog, sql in CATALOG_FAULTS if catalog != ROOT]


@pytest.mark.parametrize(("catalog", "sql"), OF_CATALOGS)
def test_a_fault_of_a_catalog_is_refused(desk: Desk, catalog: bytes, sql: str) -> None:
    repository = sound()
    repository.edit_catalog(catalog, sql)
    refused(desk, repository)


@pytest.mark.parametrize("patch", [patch for _, patch in FILE_FAULTS])
@pytest.mark.parametrize("catalog", [OUTER, INNER])
def test_a_damaged_database_is_refused(desk: Desk, patch: Callable[[bytes], bytes], catalog: bytes) -> None:
    repository = sound()
    repository.edit_catalog(catalog, "", patch)
    refused(desk, repository)
