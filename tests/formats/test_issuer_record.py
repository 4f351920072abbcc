from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stratus.errors import BadFormat, UsageError
from stratus.formats.issuer_record import IssuerRecord, Rule, issuer_id
from stratus.formats.key_record import Quota, is_key_id

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, UTC)
URL = "https://issuer.example.org"


def rule(**changes: Any) -> Rule:
    wanted: dict[str, Any] = {"claims": {"repo": "a/*"}, "grants": [b"/b/\xff", b"/a"], "writer": "{repo}", **changes}
    return Rule.new(URL, **wanted)


def record(*rules: Rule) -> IssuerRecord:
    made = IssuerRecord.new(URL, ["stratus", "", "stratus"], NOW)
    for one in rules or (rule(),):
        made = made.with_rule(one)
    return made


def test_a_record_reads_back_with_any_bytes_in_its_paths() -> None:
    packed = record(rule(quota=Quota(leases=7))).pack()
    assert packed.isascii()
    found = IssuerRecord.parse(packed)
    assert (found.issuer, found.audiences, found.created) == (URL, ("stratus",), NOW.replace(microsecond=0))
    (one,) = found.rules
    assert (one.paths, one.quota.leases) == ((b"/a", b"/b/\xff"), 7)
    assert found == IssuerRecord.parse(found.pack())


def test_ids_are_made_of_what_they_stand_for() -> None:
    assert record().id == issuer_id(URL) != issuer_id(f"{URL}/")
    assert is_key_id(record().id)
    assert is_key_id(rule().id)
    assert rule().id == rule(grants=[b"/a", b"/b/\xff", b"/a"]).id == rule(quota=Quota(leases=1)).id
    assert len({rule().id, rule(writer="x").id, rule(claims={"repo": "b"}).id, rule(grants=[b""]).id}) == 4


def test_rules_are_added_replaced_and_taken_away() -> None:
    first, second = rule(), rule(writer="other")
    both = record(first, second)
    assert [one.id for one in both.rules] == [first.id, second.id]
    again = both.with_rule(rule(quota=Quota(leases=1)))
    assert [one.id for one in again.rules] == [first.id, second.id]
    assert again.rules[0].quota.leases == 1
    assert [one.id for one in both.without_rule(first.id).rules] == [second.id]
    assert both.without_rule(None).rules == ()
    assert both.without_rule("none") is both
    versions = [both, again, both.without_rule(None), both.without_rule(None)]
    assert len({version.pack() for version in versions}) == 4


def test_nobody_is_let_in_without_a_claim_or_an_audience() -> None:
    with pytest.raises(UsageError, match="everybody"):
        record(rule(claims={}))
    with pytest.raises(UsageError, match="audience"):
        IssuerRecord.new(URL, ["", ""], NOW)
    assert IssuerRecord.new(URL, ["x"], NOW, profile="wlcg").with_rule(rule(claims={})).rules


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("a/*", "a/b/c", True),
        ("*", "", True),
        ("a*c", "abbc", True),
        ("a*c", "abbcd", False),
        ("a.b", "axb", False),
        ("a?", "ab", False),
        ("[ab]", "a", False),
        ("a/*", "a/\nb", True),
        ("", "x", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_does(pattern: str, text: str, fits: bool) -> None:
    assert rule(claims={"x": pattern}).fits({"x": text}) is fits


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a" * 20},
        {"issuer": "https://other.example.org"},
        {"audiences": []},
        {"profile": "saml"},
        {"rules": [{}]},
        {"created": "2026-11-25T12:00:00"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadFormat):
        IssuerRecord.parse(json.dumps({**json.loads(record().pack()), **change}).encode())
    with pytest.raises(BadFormat):
        IssuerRecord.parse(b"{")


@pytest.mark.parametrize("change", [{"grants": ["/a/../b"]}, {"grants": []}, {"claims": {}}, {"writer": ""}])
def test_a_rule_that_lets_in_too_many_is_refused(change: dict[str, Any]) -> None:
    content = json.loads(record().pack())
    content["rules"][0].update(change)
    with pytest.raises(BadFormat):
        IssuerRecord.parse(json.dumps(content).encode())
