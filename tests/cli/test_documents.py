"""What documents say of commands and tests is so."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.cli.main import VERBS, parser
from stratus.cli.parsing import Parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# The documented commands of the stock tool, but for those of its hardware and its own migrations.
STOCK = re.findall(
    r"\S+",
    """
    mkfs add-replica import transaction publish abort ingest enter tag rollback checkout diff gc check snapshot resign
    masterkeycard list info mount rmfs migrate skeleton fix-permissions update-geodb
    """,
)


def parsers(of: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """The parsers of all verbs, and of what is below them."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield (*words, name), child
                yield from parsers(child, (*words, name))


ALL = dict(parsers(parser()))


def commands(text: str) -> list[str]:
    """Everything that looks like a command line of ours, in code."""
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    indented = re.findall(r"^ {4}(.+)$", text, re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()] + spans + indented
    return [line for line in lines if re.match(r"stratus [a-z]", line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_in_a_document_exists_with_its_options(document: Path) -> None:
    for line in commands(document.read_text()):
        words = line.split("#")[0].split()[1:]
        verb = max((known for known in ALL if known == tuple(words[: len(known)])), key=len, default=None)
        assert verb is not None, line
        options = {option for action in ALL[verb]._actions for option in action.option_strings}
        assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= options, line


def test_the_table_of_commands_has_every_verb_and_every_stock_command() -> None:
    table = (ROOT / "docs" / "commands.md").read_text()
    assert [verb for verb in VERBS if f"`stratus {verb}" not in table] == []
    first = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    assert [command for command in STOCK if not re.search(rf"`{command}\b", first)] == []


def test_options_that_the_table_names_in_passing_exist() -> None:
    table = (ROOT / "docs" / "commands.md").read_text()
    for row in (line.split("|") for line in table.splitlines() if line.startswith("| `")):
        found = re.search(r"`stratus ([a-z]+(?: [a-z]+)?)", row[2])
        if found is not None:
            words = tuple(found[1].split())
            of = ALL.get(words) or ALL[words[:1]]
            options = {option for action in of._actions for option in action.option_strings}
            assert set(re.findall(r"`(--[a-z-]+)", row[3])) <= options, row


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_tests_and_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    for file, test in re.findall(r"`([a-z_]+/test_[a-z_0-9]+\.py)(?:::(test_\w+))?`", text):
        source = (ROOT / "tests" / file).read_text()
        assert f"def {test or 'test_'}" in source, f"{file}::{test}"
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target
    for file in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", text):
        assert any((ROOT / top / file).exists() for top in ("src/stratus", "src", "tests", ".")), file
