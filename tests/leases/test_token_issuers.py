from __future__ import annotations

import pytest

from stratus.errors import BadName, NoSuchRepository, UsageError
from stratus.formats import records
from stratus.formats.issuer_record import IssuerRecord, Profile, Rule
from stratus.formats.records import Format
from stratus.leases.token_issuers import add, find, list_all, remove
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Fault, FaultyStore

LAYOUT = Layout("test.example.org")
URL, OTHER = "https://one.example.org", "https://two.example.org"
FIRST = Rule.new(URL, {"repo": "a/*"}, [b"/a"], "{repo}")
SECOND = Rule.new(URL, {"repo": "b/*"}, [b"/b"], "{repo}")


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(LAYOUT.format, records.pack(Format(records.FORMAT)))
    return store


def put(
    store: MemoryStore, rule: Rule = FIRST, url: str = URL, audience: str = "us", profile: Profile = "oidc"
) -> IssuerRecord:
    return flows.run(add(LAYOUT, url, [audience], "", profile, rule), store)


def rules(store: MemoryStore, url: str = URL) -> list[str]:
    found = flows.run(find(LAYOUT, url), store)
    return [] if found is None else [rule.id for rule in found.rules]


def test_rules_of_an_issuer_come_one_after_the_other(store: MemoryStore) -> None:
    assert rules(store) == []
    put(store)
    assert put(store, SECOND) == flows.run(find(LAYOUT, URL), store)
    assert rules(store) == [FIRST.id, SECOND.id]
    put(store, FIRST)
    assert rules(store) == [FIRST.id, SECOND.id]
    put(store, FIRST, OTHER)
    assert [one.issuer for one in flows.run(list_all(LAYOUT), store)] in ([URL, OTHER], [OTHER, URL])


def test_what_was_removed_lets_nobody_in_and_may_come_back(store: MemoryStore) -> None:
    put(store)
    put(store, SECOND)
    flows.run(remove(LAYOUT, URL, FIRST.id), store)
    assert rules(store) == [SECOND.id]
    with pytest.raises(BadName):
        flows.run(remove(LAYOUT, URL, FIRST.id), store)
    flows.run(remove(LAYOUT, URL), store)
    flows.run(remove(LAYOUT, URL), store)
    assert rules(store) == []
    assert flows.run(list_all(LAYOUT), store) == []
    assert put(store, SECOND, audience="them").audiences == ("them",)
    with pytest.raises(BadName):
        flows.run(remove(LAYOUT, OTHER), store)


def test_all_rules_of_an_issuer_have_one_audience_and_profile(store: MemoryStore) -> None:
    put(store)
    for audience, profile in (("them", "oidc"), ("us", "wlcg")):
        with pytest.raises(UsageError, match="another audience"):
            put(store, SECOND, audience=audience, profile=profile)  # type: ignore[arg-type]
    assert rules(store) == [FIRST.id]


def test_an_issuer_needs_a_repository() -> None:
    with pytest.raises(NoSuchRepository):
        put(MemoryStore())


@pytest.mark.parametrize("fault", [Fault.LOSE, Fault.VANISH])
def test_what_was_asked_is_done_once_though_answers_are_lost(store: MemoryStore, fault: Fault) -> None:
    def unlucky() -> FaultyStore:
        """Whose first put goes without an answer."""
        puts = iter([fault])
        return FaultyStore(store, lambda call: next(puts, Fault.PASS) if call.verb == "put" else Fault.PASS)

    for rule, expected in ((FIRST, [FIRST.id]), (SECOND, [FIRST.id, SECOND.id])):
        flows.run(add(LAYOUT, URL, ["us"], "", "oidc", rule), unlucky())
        assert rules(store) == expected
    flows.run(remove(LAYOUT, URL, FIRST.id), unlucky())
    assert rules(store) == [SECOND.id]
