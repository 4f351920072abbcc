"""Everything that users get wrong, and what they are told; ``docs/errors.md`` is compared, or with
STRATUS_UPDATE_DOCS=1 written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stratus.stores.directory import DirectoryStore
from tests.bad_input.cases import TABLE
from tests.bad_input.desk import Case, Desk
from tests.repositories import FQRN, new_repository, put, writer

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
UPDATE = bool(os.environ.get("STRATUS_UPDATE_DOCS"))
_HEAD = """# What goes wrong, and what you see

Every error is one line and one hint on standard error (with `--json`: one object on standard output), and an exit code.
This table is written by the tests that provoke each of them (`STRATUS_UPDATE_DOCS=1 pytest tests/bad_input`).

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage |
| 3 | busy: somebody else holds it, later it may work |
| 4 | not trustworthy: a signature, a hash, a format, or what `check` found |
| 5 | store or network |
| 6 | not permitted |
| 130 | interrupted |
"""
CASES = [case for cases in TABLE.values() for case in cases]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory store with a small repository in it, to be copied."""
    from stratus.writers.publish import tag

    directory = tmp_path_factory.mktemp("template") / "store"
    store = DirectoryStore(directory)
    new_repository(store)
    put(store, {"README": b"read me\n", "bin": None, "bin/tool": b"#!/bin/sh\n"})
    tag(writer(store), FQRN, "v1", None, "tester")
    return directory


@pytest.fixture
def desk(
    tmp_path: Path, template: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("STRATUS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("STRATUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        yield Desk(tmp_path, template, request, stack)


@pytest.fixture(scope="session")
def seen() -> Iterator[dict[str, str]]:
    """The rows that were made; written into the document at the end, if all of them were."""
    rows: dict[str, str] = {}
    yield rows
    if UPDATE and rows.keys() == {case.happened for case in CASES}:
        DOCUMENT.write_text(_document(rows))


def _document(rows: dict[str, str]) -> str:
    parts = [_HEAD]
    for title, cases in TABLE.items():
        parts.append(f"\n## {title}\n\n| what happened | what you see | exit code |\n|---|---|---|\n")
        parts += [f"{rows[case.happened]}\n" for case in cases]
    return "".join(parts)


def _row(case: Case, line: str, hint: str) -> str:
    said = f"`{line.removeprefix('stratus: ')}`<br>{hint}"
    return f"| {case.happened} | {said.replace('|', chr(92) + '|')} | {case.code} |"


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"\W+", "_", case.happened))
def test_an_error_is_one_line_and_one_hint_and_documented(case: Case, desk: Desk, seen: dict[str, str]) -> None:
    words = case.prepare(desk)
    code, out, err = desk.run(words)
    assert (code, out) == (case.code, "")
    lines = err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["stratus", "hint"], err
    line, hint = (desk.normal(line) for line in lines)
    assert len(line) < 300
    seen[case.happened] = row = _row(case, line, hint.removeprefix("hint: "))
    if not UPDATE:
        assert row in DOCUMENT.read_text().splitlines(), "run with STRATUS_UPDATE_DOCS=1 to document it"


@pytest.mark.skipif(UPDATE, reason="the document is being written")
def test_the_document_has_every_case_and_no_other() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if re.fullmatch(r"\| .* \| \d \|", line)]
    documented = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert [case.happened for case in CASES] == documented


def test_nobody_hears_of_the_same_thing_twice() -> None:
    assert len({case.happened for case in CASES}) == len(CASES)
