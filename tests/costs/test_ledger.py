from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from stratus.costs.ledger import LedgerEntry, day_of, pack, parse, part_name, summed
from stratus.errors import BadFormat
from stratus.formats.receipt import Cost, Receipt, Requests, Volumes

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def receipt(change_set: str, **changes: Any) -> Receipt:
    wanted: dict[str, Any] = {
        "state": "published",
        "repository": "test.example.org",
        "path": "/a",
        "revision": 7,
        "root": "",
        "writer": "alice",
        "message": "",
        "time": int(NOON.timestamp()),
        "bytes": Volumes(3000, 2000, 1000),
        "requests": Requests(get=1, put=2),
        "invocations": 1,
        "gb_seconds": 0.5,
        "cost": Cost("USD", 0.1, "x-2026-11"),
        **changes,
    }
    return Receipt(id=change_set, **wanted)


def entry(change_set: str, **changes: Any) -> LedgerEntry:
    return LedgerEntry.of(receipt(change_set, **changes), NOON)


def test_an_entry_is_what_a_receipt_says_it_took() -> None:
    made = entry("x", state="rejected")
    assert (made.id, made.time, made.day) == ("x", int(NOON.timestamp()), date(2026, 11, 25))
    assert (made.writer, made.path, made.revision, made.state) == ("alice", "/a", 7, "rejected")
    assert (made.bytes, made.requests.total, made.gb_seconds, made.invocations) == (1000, 3, 0.5, 1)
    assert made.cost == Cost("USD", 0.1, "x-2026-11")


def test_a_receipt_without_a_time_was_decided_when_it_was_written() -> None:
    assert entry("x", time=0).day == NOON.date()


def test_entries_read_back_with_any_bytes_in_their_paths() -> None:
    entries = [entry("x", path="/\udcff\u2028"), entry("y", writer="b\nc")]
    packed = pack(entries)
    assert packed.isascii()
    assert parse(packed) == entries
    assert parse(b"") == []
    for rubbish in (b"{}\n", b"\n", b"[]"):
        with pytest.raises(BadFormat):
            parse(rubbish)


def test_objects_are_named_by_their_day_and_by_whom_they_are_of() -> None:
    one, two = entry("x"), entry("y")
    day = date(2026, 11, 5)
    name = part_name(day, [one, two])
    assert name.startswith("2026-11/05-")
    assert day_of(name) == day
    assert part_name(day, [two, one]) == name != part_name(day, [one])
    with pytest.raises(BadFormat):
        day_of("2026-13/41-abc")


def test_sums_are_by_writer_path_or_day() -> None:
    entries = [
        entry("1"),
        entry("2", writer="bob"),
        entry("3", path="/b", time=int(NOON.timestamp()) + 86400),
    ]
    assert [(row.key, row.change_sets) for row in summed(entries, "writer")] == [("alice", 2), ("bob", 1)]
    assert [(row.key, row.change_sets) for row in summed(entries, "path")] == [("/a", 2), ("/b", 1)]
    assert [(row.key, row.change_sets) for row in summed(entries, "day")] == [("2026-11-25", 2), ("2026-11-26", 1)]
    (total,) = summed(entries)
    assert (total.key, total.uploaded, total.invocations, total.gb_seconds) == ("", 3000, 3, 1.5)
    assert total.requests == Requests(get=3, put=6)
    assert total.cost == Cost("USD", 0.3, "x-2026-11")
    assert summed([]) == []


def test_a_change_set_counts_once_however_often_it_comes() -> None:
    (total,) = summed([entry("1"), entry("1"), entry("2")])
    assert total.change_sets == 2


def test_currencies_are_not_mixed_and_all_sheets_are_named() -> None:
    entries = [
        entry("1"),
        entry("2", cost=Cost("EUR", 2.0, "y-2026-12")),
        entry("3", cost=Cost("USD", 0.2, "x-2026-12")),
    ]
    assert [row.cost for row in summed(entries, "writer")] == [
        Cost("EUR", 2.0, "y-2026-12"),
        Cost("USD", 0.3, "x-2026-11, x-2026-12"),
    ]
