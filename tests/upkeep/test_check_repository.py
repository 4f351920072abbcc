"""Faults around the tree: the chain of trust, the manifest, history, reflog, and the objects themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from stratus.formats.hashes import Digest, ObjectId, Suffix
from stratus.trust.keys import RepositoryKeys
from stratus.upkeep.check import check
from stratus.upkeep.check_problems import Code
from tests.upkeep.faults import FQRN, NOW, Repository, connected, keys, sound

Plant = Callable[[Repository], object]


def damage(key: Callable[[Repository], str], edit: Callable[[bytes], bytes]) -> Plant:
    return lambda r: r.store.put(key(r), edit(r.store.get(key(r)).data))


def remove(key: Callable[[Repository], str]) -> Plant:
    return lambda r: r.store.delete([key(r)])


def in_turn(*plants: Plant) -> Plant:
    return lambda r: [plant(r) for plant in plants]


def named(field: str, suffix: Suffix) -> Callable[[Repository], str]:
    """The key of an object that the manifest names."""
    return lambda r: r.layout.object(ObjectId(getattr(r.manifest, field), suffix))


def content(path: bytes) -> Callable[[Repository], str]:
    return lambda r: r.layout.object(r.object_of(path))


def nested(r: Repository) -> str:
    with connected(r.plain(ObjectId(r.manifest.root, Suffix.CATALOG))) as database:
        (text,) = database.execute("SELECT sha1 FROM nested_catalogs").fetchone()
    return r.layout.object(ObjectId(Digest.parse(text), Suffix.CATALOG))


def manifest(r: Repository) -> str:
    return r.layout.manifest


def whitelist(r: Repository) -> str:
    return r.layout.whitelist


def reflog(r: Repository) -> str:
    return r.layout.reflog


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def other_master() -> RepositoryKeys:
    """The same certificate, but a whitelist by these is not to be trusted."""
    return RepositoryKeys.generate(FQRN)


def new_whitelist(by: Callable[[], RepositoryKeys] = keys, **fields: Any) -> Plant:
    def plant(r: Repository) -> None:
        algorithm = r.manifest.root.algorithm
        fresh = replace(keys().new_whitelist(NOW, algorithm), **fields)
        r.store.put(r.layout.whitelist, by().sign_whitelist(fresh, algorithm))

    return plant


def late(field: str, seconds: int) -> Plant:
    return lambda r: r.sign(**{field: getattr(r.manifest, field) + seconds})


DAY = 86_400
TAG = "INSERT INTO tags SELECT 'other', hash, {}, timestamp, channel, '', size, {} FROM tags WHERE name = 'trunk'"

FAULTS: list[tuple[str, Code, str, Plant]] = [
    # what was done; what the check says; and of what
    ("manifest cut off", "bad_manifest", "manifest", damage(manifest, lambda data: data[:40])),
    ("manifest of another path", "bad_manifest", "root", damage(manifest, lambda data: data.replace(b"\nRd", b"\nRe"))),
    ("manifest edited", "bad_signature", "manifest", damage(manifest, lambda data: data.replace(b"\nGyes", b"\nGno"))),
    ("signature damaged", "bad_signature", "manifest", damage(manifest, flipped)),
    ("certificate missing", "missing_object", "certificate", remove(named("certificate", Suffix.CERTIFICATE))),
    ("certificate damaged", "bad_hash", "X", damage(named("certificate", Suffix.CERTIFICATE), flipped)),
    ("certificate is none", "bad_certificate", "X", lambda r: damage(manifest, lambda data: data.replace(
        str(r.manifest.certificate).encode(), str(r.put(b"no PEM", Suffix.CERTIFICATE)).encode()))(r)),
    ("whitelist missing", "missing_whitelist", ".cvmfswhitelist", remove(whitelist)),
    ("whitelist cut off", "bad_whitelist", "whitelist", damage(whitelist, lambda data: data[:20])),
    ("whitelist forged", "bad_signature", "whitelist", new_whitelist(other_master)),
    ("whitelist edited", "bad_signature", "whitelist", damage(
        whitelist, lambda data: data.replace(b"\nE20", b"\nE21"))),
    ("whitelist run out", "whitelist_expired", "2026-11-01 12", new_whitelist(expires=NOW)),
    ("certificate not listed", "certificate_not_listed", "certificate", new_whitelist(fingerprints=())),
    ("root size wrong", "wrong_size", "/: the catalog", in_turn(
        lambda r: r.edit_history("UPDATE tags SET size = 77"), lambda r: r.sign(root_size=77))),
    ("revision wrong", "wrong_revision", "revision 2", in_turn(
        lambda r: r.edit_history("UPDATE tags SET revision = 3 WHERE revision = 2"), lambda r: r.sign(revision=3))),
    ("manifest from the future", "manifest_from_future", "manifest", late("timestamp", 2 * DAY)),
    ("manifest older than its root", "manifest_older_than_root", "before", late("timestamp", -DAY)),
    ("other TTL", "ttl_mismatch", "300", late("ttl", 60)),
    ("meta-info no JSON", "bad_meta_info", "M", lambda r: r.put_meta_info(b"{")),
    ("meta-info missing", "missing_object", "M", in_turn(
        lambda r: r.put_meta_info(b"{}"), remove(named("meta_info", Suffix.META_INFO)))),
    ("history missing", "missing_object", "H", remove(named("history", Suffix.HISTORY))),
    ("history damaged", "bad_hash", "H", damage(named("history", Suffix.HISTORY), flipped)),
    ("history of another schema", "bad_history", "H", lambda r: r.edit_history("UPDATE properties SET value = '2.0'")),
    ("history without tags", "bad_history", "H", lambda r: r.edit_history("DROP TABLE tags")),
    ("history of another name", "wrong_name", "other", lambda r: r.edit_history(
        "UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'")),
    ("branch without tag", "bad_branch", "'dev'", lambda r: r.edit_history(
        "INSERT INTO branches VALUES ('dev', '', 1)")),
    ("branch from nowhere", "bad_branch", "'dev'", lambda r: r.edit_history(
        "INSERT INTO branches VALUES ('dev', 'none', 1);" + TAG.format(2, "'dev'"))),
    ("tag on no branch", "bad_tag", "'other'", lambda r: r.edit_history(TAG.format(2, "'none'"))),
    ("tag before its branch", "bad_tag", "'other'", lambda r: r.edit_history(
        "INSERT INTO branches VALUES ('dev', '', 9);" + TAG.format(2, "'dev'"))),
    ("tag to come", "bad_tag", "'other'", lambda r: r.edit_history(TAG.format(3, "''"))),
    ("tag without root", "bad_tag", "'everything'", lambda r: r.edit_history(
        "UPDATE tags SET hash = NULL WHERE name = 'everything'")),
    ("tag with no hash", "bad_tag", "'everything'", lambda r: r.edit_history(
        "UPDATE tags SET hash = 'x' WHERE name = 'everything'")),
    ("trunk elsewhere", "wrong_trunk", "revision 1", lambda r: r.edit_history(
        "UPDATE tags SET revision = 1 WHERE name = 'trunk'")),
    ("no trunk", "wrong_trunk", "trunk", lambda r: r.edit_history("DELETE FROM tags WHERE name = 'trunk'")),
    ("tagged root missing", "missing_object", "C", lambda r: r.store.delete([r.layout.object(r.previous_root)])),
    ("reflog missing", "missing_reflog", ".cvmfsreflog", remove(reflog)),
    ("reflog cut off", "reflog_checksum", "reflog", damage(reflog, lambda data: data[:2048])),
    ("reflog of another name", "wrong_name", "other", lambda r: r.edit_reflog(
        "UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'")),
    ("reflog without the root", "reflog_lacks", "catalog", lambda r: r.edit_reflog(
        lambda database: database.execute("DELETE FROM refs WHERE hash = ?", (str(r.manifest.root),)))),
    ("reflog without history", "reflog_lacks", "history", lambda r: r.edit_reflog("DELETE FROM refs WHERE type = 2")),
    ("reflog with another type", "reflog_lacks", "certificate", lambda r: r.edit_reflog(
        "UPDATE refs SET type = 3 WHERE type = 1")),
    ("reflog with an unknown type", "bad_reflog", "reflog", lambda r: r.edit_reflog(
        "UPDATE refs SET type = 9 WHERE type = 2")),
    ("reflog without checksum", "reflog_checksum", "reflog", lambda r: r.sign(reflog=None)),
    ("reflog newer than the manifest", "stale_reflog", "reflog", lambda r: r.edit_reflog(
        "INSERT INTO refs VALUES ('e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78', 0, 1)", sign=False)),
    ("file missing", "missing_object", "/plain/small", remove(content(b"/plain/small"))),
    ("empty file missing", "missing_object", "/plain/empty", remove(content(b"/plain/empty"))),
    ("chunk missing", "missing_object", "P of /plain/large", remove(content(b"/plain/large"))),
    ("catalog missing", "missing_object", "C of /sw", remove(nested)),
    ("catalog damaged", "bad_hash", "C is damaged", damage(nested, flipped)),
    ("catalog no zlib", "bad_content", "C of /sw", lambda r: r.edit_catalog(b"", lambda database: database.execute(
        "UPDATE nested_catalogs SET sha1 = ?", (str(r.put_stored(b"not zlib", Suffix.CATALOG)),)))),
]  # fmt: skip

DATA_FAULTS: list[tuple[str, Code, str, Plant]] = [
    ("file damaged", "bad_hash", "/plain/small", damage(content(b"/plain/small"), flipped)),
    ("chunk damaged", "bad_hash", "/plain/large", damage(content(b"/plain/large"), lambda data: data[:-1])),
    ("size wrong", "bad_content", "/plain/small", lambda r: r.edit_catalog(
        b"", "UPDATE catalog SET size = size + 1 WHERE name = 'small';"
        "UPDATE statistics SET value = value + 1 WHERE counter = 'self_file_size'")),
    ("compression wrong", "bad_content", "/plain/small", lambda r: r.edit_catalog(
        b"", "UPDATE catalog SET flags = flags | 2048 WHERE name = 'small'")),
    ("tagged root damaged", "bad_hash", "C", damage(lambda r: r.layout.object(r.previous_root), flipped)),
]  # fmt: skip

FOLLOWING: dict[Code, set[Code]] = {
    "reflog_checksum": {"bad_reflog"},
    "bad_certificate": {"reflog_lacks", "reflog_checksum"},
}
WARNINGS = {"stale_reflog", "ttl_mismatch", "manifest_from_future", "manifest_older_than_root"}


@pytest.mark.parametrize(("code", "what", "plant"), [rest for _, *rest in FAULTS], ids=[name for name, *_ in FAULTS])
def test_a_fault_is_named(code: Code, what: str, plant: Plant) -> None:
    repository = sound()
    plant(repository)
    problems = repository.problems()
    (problem,) = (problem for problem in problems if problem.code == code)
    assert what in problem.message
    assert problem.severity == ("warning" if code in WARNINGS else "error")
    assert {other.code for other in problems} <= {code, *FOLLOWING.get(code, ())}


@pytest.mark.parametrize(
    ("code", "what", "plant"), [rest for _, *rest in DATA_FAULTS], ids=[name for name, *_ in DATA_FAULTS]
)
def test_a_fault_in_the_bytes_is_named_when_they_are_read(code: Code, what: str, plant: Plant) -> None:
    repository = sound()
    plant(repository)
    assert repository.problems() == []
    (problem,) = repository.problems(data=True)
    assert problem.code == code
    assert what in problem.message


def test_another_repositorys_files_under_the_name_are_noticed() -> None:
    repository, name = sound(), "copied.example.org"
    for stat in list(repository.store.list(f"{FQRN}/")):
        repository.store.put(name + stat.key.removeprefix(FQRN), repository.store.get(stat.key).data)
    problems = list(check(repository.store, name, [keys().public_key], now=NOW))
    assert [problem.code for problem in problems] == ["wrong_name", "wrong_name"]


def test_a_whitelist_runs_out_at_the_start_of_its_last_hour() -> None:
    repository = sound()
    ends = NOW + timedelta(days=30)
    assert repository.problems(now=ends - timedelta(seconds=1)) == []
    assert [problem.code for problem in repository.problems(now=ends)] == ["whitelist_expired"]


def test_several_faults_are_all_named() -> None:
    repository = sound()
    for plant in (remove(content(b"/plain/small")), remove(nested), remove(whitelist), remove(reflog)):
        plant(repository)
    assert {problem.code for problem in repository.problems()} == {
        "missing_object",
        "missing_whitelist",
        "missing_reflog",
    }
    assert {problem.path for problem in repository.problems() if problem.path} == {b"/plain/small", b"/sw"}
