"""Faults in catalogs, one planted at a time with everything else made good; the check names it and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stratus.formats.rows import COLUMNS
from stratus.upkeep.check_problems import Code
from tests.upkeep.faults import INNER, OUTER, sound

ROOT = b""


def at(path: str) -> str:
    return f"WHERE md5path_1 = md5a('{path}') AND md5path_2 = md5b('{path}')"


def row(path: str, change: str) -> str:
    return f"UPDATE catalog SET {change} {at(path)}"


def renamed(path: str, name: str) -> str:
    """A row under another name, in the same directory."""
    new = f"{path.rpartition('/')[0]}/{name}"
    return row(path, f"name = '{name}', md5path_1 = md5a('{new}'), md5path_2 = md5b('{new}')")


def doubled(path: str, changes: dict[str, str]) -> str:
    """Another row like the one at a path but for some columns."""
    values = ", ".join(changes.get(column, column) for column in COLUMNS)
    return f"INSERT INTO catalog ({', '.join(COLUMNS)}) SELECT {values} FROM catalog {at(path)}"


def counted(**changes: int) -> str:
    return "".join(f"; UPDATE statistics SET value = value + {n} WHERE counter = '{c}'" for c, n in changes.items())


FIRST_CHUNK = "offset = 0 AND md5path_1 = md5a('/plain/large')"
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
    "SELECT i AS md5path_1, i AS md5path_2, i AS offset, i AS size, i AS hash FROM n"
)
LAST_CHUNK = "md5path_1 = md5a('/plain/large') AND offset = (SELECT max(offset) FROM chunks)"

ROW_FAULTS: list[tuple[Code, str, str]] = [
    # what is wrong, where the check sees it in the root catalog, how it came about
    ("wrong_path_hash", "/plain/small", row("/plain/small", "md5path_1 = md5path_1 + 1")),
    ("unreachable_row", "/", row("/plain/fifo", "parent_1 = 1")),
    ("null_value", "/plain/?", row("/plain/small", "name = NULL")),
    ("null_value", "/plain/small", row("/plain/small", "symlink = NULL")),
    ("null_value", "/plain", row("/plain", "uid = NULL")),
    ("bad_type", "/plain/small", row("/plain/small", "name = CAST(name AS BLOB)")),
    ("bad_type", "/plain/small", row("/plain/small", "mtime = 'yesterday'")),
    ("bad_type", "/plain/small", row("/plain/small", "hash = 'text'")),
    ("bad_name", "/plain/", row("/plain/small", "name = ''")),
    ("bad_name", "/plain/a/b", renamed("/plain/small", "a/b")),
    ("bad_name", "/plain/..", renamed("/plain/small", "..")),
    ("name_too_long", "/plain/" + "x" * 256, renamed("/plain/small", "x" * 256)),
    ("duplicate_name", "/plain/small", doubled("/plain/small", {"md5path_1": "md5path_1 + 1"})),
    ("bad_mode", "/plain/small", row("/plain/small", "mode = 511")),
    ("bad_flags", "/plain/small", row("/plain/small", "flags = 12")),
    ("bad_flags", "/plain", row("/plain", "flags = 4")),
    ("bad_flags", "/plain/link", row("/plain/link", "flags = flags | 65536")),
    ("bad_flags", "/plain", row("/plain", "flags = flags | 128")),
    ("bad_flags", "/plain/fifo", row("/plain/fifo", "flags = flags | 256")),
    ("bad_flags", "/plain/small", row("/plain/small", "flags = flags | (1 << 20)")),
    ("bad_algorithm", "/plain/small", row("/plain/small", "flags = flags | (7 << 8)")),
    ("bad_compression", "/plain/small", row("/plain/small", "flags = flags | (7 << 11)")),
    ("bad_size", "/plain/fifo", row("/plain/fifo", "size = 1")),
    ("bad_time", "/plain/small", row("/plain/small", "mtimens = 1000000000")),
    ("no_hash", "/plain/small", row("/plain/small", "hash = NULL")),
    ("bad_hash_length", "/plain/small", row("/plain/small", "hash = substr(hash, 1, 16)")),
    ("unexpected_hash", "/plain/link", row("/plain/link", "hash = zeroblob(20)")),
    ("bad_target", "/plain/link", row("/plain/link", "symlink = ''")),
    ("bad_target", "/plain/fifo", row("/plain/fifo", "symlink = 'small'")),
    ("bad_xattr", "/plain/attributes", row("/plain/attributes", "xattr = substr(xattr, 1, 12)")),
    ("bad_xattr", "/plain/attributes", row("/plain/attributes", "xattr = CAST(x'02' || substr(xattr, 2) AS BLOB)")),
    ("wrong_link_count", "/plain", row("/plain", "hardlinks = 4")),
    ("wrong_link_count", "/plain/small", row("/plain/small", "hardlinks = 0")),
    ("wrong_link_count", "/plain/first", "UPDATE catalog SET hardlinks = hardlinks + 1 WHERE hardlinks >> 32"),
    ("bad_link_group", "/plain/first", row("/plain/second", "mtime = mtime + 1")),
    ("bad_link_group", "/plain/small", row("/plain/small", "hardlinks = 2")),
    ("bad_link_group", "/plain", row("/plain", "hardlinks = hardlinks | (9 << 32)")),
    ("bad_chunks", "/plain/large", f"UPDATE chunks SET offset = 1 WHERE {FIRST_CHUNK}"),
    ("bad_chunks", "/plain/large", f"UPDATE chunks SET size = size + 1 WHERE {LAST_CHUNK}"),
    ("bad_hash_length", "/plain/large", f"UPDATE chunks SET hash = x'00' WHERE {FIRST_CHUNK}"),
    ("bad_type", "/plain/large", f"UPDATE chunks SET hash = NULL WHERE {FIRST_CHUNK}"),
    (
        "orphan_chunks",
        "/",
        "INSERT INTO chunks VALUES (md5a('/plain/small'), md5b('/plain/small'), 0, 6, zeroblob(20))",
    ),
    ("stray_marker", "/plain/.cvmfscatalog", renamed("/plain/small", ".cvmfscatalog")),
    ("bad_transition", "/plain", row("/plain", "flags = flags | 32")),
    ("unregistered_mountpoint", "/plain/none", row("/plain/none", "flags = flags | 16384")),
    ("bad_root_row", "/", row("", "flags = 33")),
    ("wrong_root_id", "/", row("", "rowid = 1000000")),
    ("wrong_path_hash", "/", row("", "parent_1 = 1")),
]

CATALOG_FAULTS: list[tuple[Code, bytes, bytes, str]] = [
    # what is wrong, where the check sees it, which catalog was changed, how
    ("bad_root_row", INNER, INNER, f"DELETE FROM catalog {at('/sw/v1')}"),
    ("bad_root_row", INNER, INNER, row("/sw/v1", "flags = 1")),
    ("transition_mismatch", OUTER, OUTER, row("/sw", "mtime = mtime + 1")),
    ("transition_mismatch", INNER, INNER, row("/sw/v1", "flags = flags | 32768")),
    ("transition_mismatch", INNER, OUTER, row("/sw/v1", "hardlinks = 7")),
    ("missing_marker", INNER, INNER, renamed("/sw/v1/.cvmfscatalog", "something")),
    ("row_below_mountpoint", b"/sw/x", ROOT,
     doubled("/plain/small", {"parent_1": "md5a('/sw')", "parent_2": "md5b('/sw')", "name": "'x'",
                              "md5path_1": "md5a('/sw/x')", "md5path_2": "md5b('/sw/x')"})
     + counted(self_regular=1, self_file_size=6)),
    ("unregistered_mountpoint", INNER, OUTER, "DELETE FROM nested_catalogs" + counted(self_nested=-1)),
    ("missing_mountpoint", b"/plain/none", ROOT,
     "INSERT INTO bind_mountpoints SELECT '/plain/none', sha1, size FROM nested_catalogs"),
    ("nested_and_bind", OUTER, ROOT, "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs"),
    ("bad_reference", OUTER, ROOT, "UPDATE nested_catalogs SET sha1 = 'nothing'"),
    ("bad_reference", OUTER, ROOT, "UPDATE nested_catalogs SET size = -1"),
    ("bad_reference", OUTER, OUTER,
     "INSERT INTO nested_catalogs SELECT '/plain', sha1, size FROM nested_catalogs" + counted(self_nested=1)),
    ("null_value", ROOT, ROOT, "UPDATE nested_catalogs SET sha1 = NULL"),
    ("missing_object", OUTER, ROOT, "UPDATE nested_catalogs SET sha1 = substr(sha1, 21) || substr(sha1, 1, 20)"),
    ("wrong_size", OUTER, ROOT, "UPDATE nested_catalogs SET size = size + 1024"),
    ("wrong_counter", INNER, INNER, "UPDATE statistics SET value = value + 1 WHERE counter = 'self_regular'"),
    ("wrong_counter", ROOT, ROOT, "UPDATE statistics SET value = value + 1 WHERE counter = 'subtree_chunks'"),
    ("missing_counter", INNER, INNER, "DELETE FROM statistics WHERE counter = 'subtree_special'"),
    ("bad_schema", INNER, INNER, "UPDATE properties SET value = '2.6' WHERE key = 'schema'"),
    ("bad_schema", INNER, INNER, "DROP INDEX idx_catalog_parent"),
    ("bad_schema", INNER, INNER, f"ALTER TABLE chunks RENAME TO old; CREATE VIEW chunks AS {ENDLESS}"),
    ("bad_schema", INNER, INNER, "CREATE TRIGGER often AFTER INSERT ON catalog BEGIN DELETE FROM chunks; END"),
    ("bad_schema", INNER, INNER, "DROP TABLE bind_mountpoints"),
    ("bad_schema", INNER, INNER, "ALTER TABLE catalog DROP COLUMN uid"),
    ("wrong_root_prefix", INNER, INNER, "UPDATE properties SET value = '/sw/v2' WHERE key = 'root_prefix'"),
    ("wrong_root_prefix", ROOT, ROOT, "INSERT INTO properties VALUES ('root_prefix', '/')"),
    ("bad_property", INNER, INNER, "DELETE FROM properties WHERE key = 'last_modified'"),
    ("bad_property", INNER, INNER, "UPDATE properties SET value = 'none' WHERE key = 'previous_revision'"),
    ("bad_property", INNER, INNER, "UPDATE properties SET value = 4294967296 WHERE key = 'last_modified'"),
    ("wrong_revision", ROOT, ROOT, "UPDATE properties SET value = 9 WHERE key = 'revision'"),
    ("ttl_mismatch", ROOT, ROOT, "UPDATE properties SET value = 61 WHERE key = 'TTL'"),
]  # fmt: skip

FILE_FAULTS: list[tuple[Code, Callable[[bytes], bytes]]] = [
    ("wal_mode", lambda plain: plain[:18] + b"\2\2" + plain[20:]),
    ("bad_catalog", lambda plain: plain[:-1024]),
    ("bad_catalog", lambda plain: plain[:1024] + bytes(1024) + plain[2048:]),
    ("bad_catalog", lambda plain: b"not a database"),
]


@pytest.mark.parametrize(("code", "path", "sql"), ROW_FAULTS, ids=[f"{c}-{n}" for n, (c, *_) in enumerate(ROW_FAULTS)])
def test_a_fault_in_a_row_is_named(code: Code, path: str, sql: str) -> None:
    repository = sound()
    repository.edit_catalog(ROOT, sql)
    problems = repository.problems()
    assert {(problem.code, problem.path) for problem in problems} == {(code, b"" if path == "/" else path.encode())}
    assert all(path in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("code", "path", "catalog", "sql"), CATALOG_FAULTS, ids=[f"{c}-{n}" for n, (c, *_) in enumerate(CATALOG_FAULTS)]
)
def test_a_fault_of_a_catalog_is_named(code: Code, path: bytes, catalog: bytes, sql: str) -> None:
    repository = sound()
    repository.edit_catalog(catalog, sql)
    problems = repository.problems()
    assert (code, path) in [(problem.code, problem.path) for problem in problems]
    assert problems == [problem for problem in problems if problem.code == code]


@pytest.mark.parametrize(("code", "patch"), FILE_FAULTS, ids=[f"{c}-{n}" for n, (c, *_) in enumerate(FILE_FAULTS)])
@pytest.mark.parametrize("catalog", [ROOT, OUTER, INNER])
def test_a_damaged_database_is_named(code: Code, patch: Callable[[bytes], bytes], catalog: bytes) -> None:
    repository = sound()
    repository.edit_catalog(catalog, "", patch)
    assert {(problem.code, problem.path) for problem in repository.problems()} == {(code, catalog)}


def test_an_index_that_lacks_a_row_is_named() -> None:
    repository = sound()
    index = "INDEX idx_catalog_parent ON catalog (parent_1, parent_2)"
    repository.edit_catalog(
        ROOT,
        f"DROP INDEX idx_catalog_parent; CREATE {index} WHERE name <> 'fifo'; PRAGMA writable_schema = ON;"
        f"UPDATE sqlite_master SET sql = 'CREATE {index}' WHERE name = 'idx_catalog_parent'",
    )
    problems = repository.problems()
    assert problems[0].code == "bad_catalog"
    assert "idx_catalog_parent" in problems[0].message


def test_what_is_behind_a_fault_is_looked_at_all_the_same() -> None:
    repository = sound()
    repository.edit_catalog(INNER, row("/sw/v1/lib", "uid = NULL"))
    repository.edit_catalog(OUTER, row("/sw/readme", "name = NULL"))
    repository.edit_catalog(ROOT, row("/plain", "uid = NULL") + ";" + row("/plain/small", "hash = NULL"))
    assert {(problem.code, problem.path) for problem in repository.problems()} == {
        ("null_value", b"/plain"),
        ("no_hash", b"/plain/small"),
        ("null_value", b"/sw/?"),
        ("null_value", b"/sw/v1/lib"),
    }
