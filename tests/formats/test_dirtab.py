from __future__ import annotations

import pytest

from stratus.errors import BadFormat
from stratus.formats.dirtab import Dirtab


def matching(rules: bytes, *directories: bytes) -> list[bytes]:
    dirtab = Dirtab.parse(rules)
    return [directory for directory in directories if dirtab.matches(directory)]


def test_a_star_stays_within_one_component() -> None:
    assert matching(b"/sw/*\n", b"/sw", b"/sw/a", b"/sw/b.c", b"/sw/a/b", b"/other/a") == [b"/sw/a", b"/sw/b.c"]


def test_a_question_mark_is_one_character_and_a_backslash_takes_it_literally() -> None:
    assert matching(b"/v?\n/w\\?\n/x\\*", b"/v1", b"/v12", b"/w?", b"/w1", b"/x*", b"/xy") == [b"/v1", b"/w?", b"/x*"]


def test_rules_take_directories_out_again_even_across_slashes() -> None:
    rules = b"/sw/*/*\n! /sw/old*\n"
    assert matching(rules, b"/sw/new/1", b"/sw/old/1", b"/sw/older/2") == [b"/sw/new/1"]


def test_comments_blank_lines_and_trailing_slashes_do_not_matter() -> None:
    assert matching(b"# comment\n\n  /a/  \n", b"/a", b"/b") == [b"/a"]


def test_the_root_never_matches() -> None:
    assert matching(b"/*", b"", b"/a") == [b"/a"]


@pytest.mark.parametrize("rules", [b"relative/path\n", b"!relative\n", b"/a\n!/a\n"])
def test_rules_that_make_no_sense_are_refused(rules: bytes) -> None:
    with pytest.raises(BadFormat):
        Dirtab.parse(rules)


def test_only_directories_that_lead_to_a_match_are_worth_looking_into() -> None:
    dirtab = Dirtab.parse(b"/a/*/c\n/x\n")
    assert [d for d in (b"/a", b"/a/b", b"/a/b/c", b"/x", b"/y") if dirtab.leads_to(d)] == [b"/a", b"/a/b"]
