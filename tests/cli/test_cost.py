from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratus.repository.layout import Layout
from stratus.repository.ledger import entries, record
from stratus.stores import flows
from stratus.stores.directory import DirectoryStore
from tests.cli.conftest import Run


def publish_twice(stratus: Run, repository: str, tree: Path) -> float:
    """Gives what both receipts say that it cost."""
    one = stratus("publish", f"{repository}:/a", tree, "--json").json
    two = stratus("publish", f"{repository}:/b", tree, "--json").json
    cost: float = one["cost"]["amount"] + two["cost"]["amount"]
    return cost


def test_the_cost_is_the_sum_of_the_receipts(stratus: Run, repository: str, tree: Path) -> None:
    spent = publish_twice(stratus, repository, tree)
    found = stratus("cost", repository, "--by", "path", "--json").json
    assert [(row["path"], row["change_sets"]) for row in found["rows"]] == [("/a", 1), ("/b", 1)]
    (total,) = found["totals"]
    assert total["cost"] == {"currency": "USD", "amount": pytest.approx(spent), "sheet": "aws-2026-11"}
    assert total["requests"]["put"] > 2
    assert total["invocations"] == 2


def test_what_is_in_the_ledger_is_counted_without_its_receipt(
    stratus: Run, repository: str, tree: Path, tmp_path: Path
) -> None:
    publish_twice(stratus, repository, tree)
    before = stratus("cost", repository, "--json").json
    store, layout = DirectoryStore(tmp_path / "store"), Layout(repository)
    found = flows.run(entries(layout), store)
    flows.run(record(layout, found), store)
    store.delete([layout.receipt(found[0].id)])
    assert stratus("cost", repository, "--json").json == before


def test_people_see_a_table_with_its_sum_and_whose_prices_these_are(stratus: Run, repository: str, tree: Path) -> None:
    assert "nothing was published" in stratus("cost", repository).out
    publish_twice(stratus, repository, tree)
    lines = stratus("cost", repository).lines
    assert lines[0].split() == ["writer", "change", "sets", "requests", "uploaded", "GB", "s", "calls", "cost"]
    assert lines[1].split()[1:] == lines[2].split()[1:]
    assert lines[2].split()[0] == "all"
    assert lines[2].endswith("USD")
    assert lines[-2] == "prices: aws-2026-11"
    assert "a month" in lines[-1]


def test_costs_are_counted_by_day_and_from_a_day_on(stratus: Run, repository: str, tree: Path) -> None:
    publish_twice(stratus, repository, tree)
    today = datetime.now(UTC).date()
    days = [row["day"] for row in stratus("cost", repository, "--by", "day", "--json").json["rows"]]
    assert set(days) <= {today.isoformat(), (today - timedelta(days=1)).isoformat()}
    since = (today - timedelta(days=1)).isoformat()
    assert stratus("cost", repository, "--since", since, "--json").json["totals"][0]["change_sets"] == 2
    later = (today + timedelta(days=2)).isoformat()
    assert f"since {later}" in stratus("cost", repository, "--since", later).out
    assert "no day" in stratus("cost", repository, "--since", "yesterday", code=2).err
