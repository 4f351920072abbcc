"""The audit trail: what is written into it, how much, and what is read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from stratus.costs.meter import Meter
from stratus.errors import BadFormat, NoSuchRepository, StoreError
from stratus.formats import records
from stratus.formats.audit import AuditEntry, months
from stratus.formats.records import Settings
from stratus.functions.auditing import REFUSALS_A_MINUTE, Auditor, entry_of, read, record
from stratus.functions.contract import Event, Reply
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.memory import MemoryStore
from tests.functions.desk import LAYOUT, Desk, new_desk
from tests.repositories import FQRN

NOW = datetime(2026, 11, 30, 23, 59, 58, 5, UTC)
ENTRY = AuditEntry(time=NOW, kind="submit", status=202, writer="alice", path="/sw/\udcff")
REFUSED = AuditEntry(time=NOW, kind="queue", status=401, code="not_permitted")


@pytest.fixture
def desk() -> Desk:
    return new_desk()


class Ticking:
    """An auditor and its clocks."""

    def __init__(self, store: Store, **settings: str) -> None:
        self.now = 0.0
        if settings:
            found = records.parse(store.get(LAYOUT.settings).data, Settings)
            store.put(LAYOUT.settings, records.pack(msgspec.structs.replace(found, **settings)))
        self.store = store
        self.auditor = Auditor(lambda _: store, clock=lambda: self.now)

    def write(self, *entries: AuditEntry) -> None:
        for entry in entries:
            self.auditor.write(FQRN, entry)

    def trail(self) -> list[AuditEntry]:
        return flows.run(read(LAYOUT, NOW - timedelta(days=1)), self.store)


# -- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_reads_back_and_its_names_are_sorted_as_the_times_are() -> None:
    assert AuditEntry.parse(REFUSED.pack()) == REFUSED
    shown = AuditEntry.parse(ENTRY.pack())
    assert (shown.path, shown.writer) == ("/sw/\\udcff", "alice")
    later = msgspec.structs.replace(ENTRY, time=NOW + timedelta(seconds=3))
    assert ENTRY.name() != ENTRY.name()
    assert ENTRY.name() < later.name()
    assert ENTRY.name().startswith("2026-11/20261130T235958.000005-")
    assert later.name().startswith("2026-12/20261201T000001")
    assert [one.outcome for one in (ENTRY, REFUSED, msgspec.structs.replace(ENTRY, status=502))] == [
        "done",
        "refused",
        "failed",
    ]
    for wrong in (b"{", b"[]", b'{"kind": "x"}', b'{"kind": "x", "time": "2026-11-30T00:00:00"}'):
        with pytest.raises(BadFormat):
            AuditEntry.parse(wrong)


def test_what_others_choose_is_cut() -> None:
    long = msgspec.structs.replace(ENTRY, path="/" + "x" * 100_000, detail="\ud800" * 5000, id="i" * 5000)
    assert len(long.pack()) < 12_000


def test_months_are_the_prefixes_of_a_time() -> None:
    assert months(NOW, NOW) == ["2026-11/"]
    assert months(NOW - timedelta(days=40), NOW + timedelta(days=40)) == [
        "2026-10/",
        "2026-11/",
        "2026-12/",
        "2027-01/",
    ]


def test_changes_and_refusals_are_noted_and_what_only_reads_or_waits_is_not(desk: Desk) -> None:
    who = desk.caller
    ask = Event("lease.acquire", "e", FQRN, {}, b'{"path": "/sw"}', caller=who)
    granted = entry_of(ask, Reply(201, b'{"id": "abc", "token": "secret"}'), "10.0.0.1", NOW)
    assert granted == AuditEntry(
        time=NOW,
        kind="lease.acquire",
        status=201,
        writer="alice",
        identity=who.identity.id,
        proof=f"key {who.identity.id}",
        host="10.0.0.1",
        id="abc",
        path="/sw",
    )
    assert entry_of(ask, Reply(409), "", NOW) is None
    assert entry_of(replace(ask, kind="lease.list"), Reply(200), "", NOW) is None
    assert entry_of(replace(ask, kind="lease.renew"), Reply(200), "", NOW) is None
    assert entry_of(replace(ask, kind="lease.list"), Reply(404), "", NOW) is None
    refused = entry_of(Event("receipt", "e", FQRN, {"id": "x"}), Reply(401, b'{"code": "c", "detail": "d"}'), "h", NOW)
    assert refused == AuditEntry(time=NOW, kind="receipt", status=401, code="c", detail="d", host="h", id="x")
    many = entry_of(
        replace(ask, kind="lease.grants", parameters={"id": "x", "path": "/sw"}),
        Reply(200, json.dumps({"grants": [1, 2], "present": [3]}).encode()),
        "",
        NOW,
    )
    assert many is not None
    assert (many.detail, many.path) == ("2 granted, 1 present", "/sw")
    for body in (b"", b"[", b"[]", b"\xff", b"[" * 100_000):
        assert entry_of(replace(ask, body=body), Reply(400, body), "", NOW) is not None


# -- how much --------------------------------------------------------------------------------------------------------


def test_refusals_that_are_too_many_are_counted(desk: Desk) -> None:
    ticking = Ticking(desk.store)
    ticking.write(*[REFUSED] * (REFUSALS_A_MINUTE + 25))
    assert len(ticking.trail()) == REFUSALS_A_MINUTE
    ticking.write(ENTRY, ENTRY)
    ticking.now = 61.0
    ticking.write(REFUSED)
    found = ticking.trail()
    assert sorted(entry.others for entry in found)[-2:] == [0, 25]
    assert len(found) == REFUSALS_A_MINUTE + 3


@pytest.mark.parametrize(("setting", "left"), [("all", 2), ("refusals", 1), ("off", 0)])
def test_settings_say_what_is_written(desk: Desk, setting: str, left: int) -> None:
    ticking = Ticking(desk.store, audit=setting)
    ticking.write(ENTRY, REFUSED)
    assert len(ticking.trail()) == left


def test_one_request_writes_an_entry_and_settings_are_read_once_a_minute(desk: Desk) -> None:
    meter = Meter()
    ticking = Ticking(desk.store.observed(meter))
    ticking.write(*[ENTRY] * 5)
    counted = meter.requests
    assert (counted.get, counted.put, counted.list) == (1, 5, 0)


def test_a_trail_that_cannot_be_written_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def down(_: str) -> Store:
        raise StoreError("no answer")

    Auditor(down).write(FQRN, REFUSED)
    assert "the audit trail lacks queue (401): no answer" in caplog.text


def test_what_is_no_repository_leaves_no_trail(caplog: pytest.LogCaptureFixture) -> None:
    def none(fqrn: str) -> Store:
        raise NoSuchRepository(fqrn)

    store = MemoryStore()
    for stores, name in ((none, FQRN), (none, "../x"), (lambda _: store, "other.example.org")):
        Auditor(stores).write(name, REFUSED)
    assert list(store.list("")) == []
    assert caplog.text == ""


def test_a_trail_is_read_from_a_time_on(desk: Desk) -> None:
    times = [NOW - timedelta(days=days) for days in (70, 31, 2, 1)]
    desk.clock.now = NOW
    for moment in times:
        flows.run(record(LAYOUT, msgspec.structs.replace(ENTRY, time=moment)), desk.store)
    assert [entry.time for entry in flows.run(read(LAYOUT, NOW - timedelta(days=32)), desk.store)] == times[1:]
    assert [entry.time for entry in flows.run(read(LAYOUT, times[2]), desk.store)] == times[2:]
