"""Tending: what died half-way goes on, what is over goes away, and nothing that is alive does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from stratus.commit import committing
from stratus.formats import messages, records, signed
from stratus.formats.claim import Claim
from stratus.formats.hashes import Algorithm
from stratus.formats.messages import LeaseRequest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Lock
from stratus.formats.reflog import RefKind, Reflog
from stratus.formats.step import Step
from stratus.formats.whitelist import Whitelist
from stratus.functions import keeping
from stratus.functions.contract import Reply
from stratus.functions.tend import _TASKS
from stratus.repository import ledger
from stratus.stores import flows
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.trust.keys import RepositoryKeys
from tests.functions.desk import LAYOUT, Desk, new_desk, of, said
from tests.repositories import content, keys, reader


@pytest.fixture
def desk() -> Desk:
    return new_desk()


@pytest.fixture(autouse=True)
def no_outcomes_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions carry no outcomes that they need not."""
    monkeypatch.setattr(committing, "_FEW_OUTCOMES", 0)


def tend(desk: Desk) -> Reply:
    return desk.ask("tend", system=True)


def done(desk: Desk) -> dict[str, int]:
    """What was done; nothing went wrong."""
    found = said(tend(desk))
    assert found["warnings"] == []
    return dict(found["done"])


def claims(desk: Desk) -> list[Claim]:
    prefixes = (LAYOUT.lease(""), LAYOUT.pathless(""))
    return [Claim.parse(desk.store.get(s.key).data) for prefix in prefixes for s in desk.store.list(prefix)]


def test_a_quiet_repository_needs_nothing(desk: Desk) -> None:
    assert done(desk) == {}
    assert done(desk) == {}


def test_expired_claims_die_and_go_when_no_late_request_can_meet_them(desk: Desk) -> None:
    for path in ("/short", None):
        desk.lease(path, ttl=60)
    desk.lease("/long", ttl=7200)
    desk.clock.advance(seconds=61)
    assert done(desk) == {}
    desk.clock.advance(seconds=2)
    assert done(desk) == {"leases expired": 2}
    assert sorted(claim.state for claim in claims(desk)) == ["dead", "dead", "open"]
    desk.clock.advance(seconds=1060)
    assert done(desk) == {}
    desk.clock.advance(seconds=1)
    assert done(desk) == {"claims deleted": 2, "markers of quotas deleted": 2}
    assert [claim.path for claim in claims(desk)] == ["/long"]


def test_a_sealed_claim_never_expires(desk: Desk) -> None:
    lease = desk.lease("/sw", ttl=10)
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))
    desk.clock.advance(hours=10)
    reply = tend(desk)
    assert [claim.state for claim in claims(desk)] == ["sealed"]
    assert [event.kind for event in reply.follow_ups] == ["commit"]
    desk.follow(reply)
    assert content(desk.store)["sw/a"] == b"1"


def test_a_queue_that_moves_is_left_alone(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))
    desk.clock.advance(seconds=60)
    assert tend(desk).follow_ups == ()
    desk.clock.advance(seconds=1)
    assert [event.kind for event in tend(desk).follow_ups] == ["commit"]


def test_who_does_not_wait_any_more_is_forgotten(desk: Desk) -> None:
    desk.store.put(LAYOUT.waiting("a!!one"), b"{}")
    desk.clock.advance(seconds=60)
    desk.store.put(LAYOUT.waiting("a!!two"), b"{}")
    desk.clock.advance(seconds=31)
    assert done(desk) == {"waits deleted": 1}
    assert [stat.key for stat in desk.store.list(LAYOUT.waiting(""))] == [LAYOUT.waiting("a!!two")]


def test_what_was_staged_stays_with_its_lease_and_goes_once_no_grant_lets_more_come(desk: Desk) -> None:
    over, held = LAYOUT.staged("a" * 20, "change-set"), LAYOUT.staged(desk.lease(ttl=7200).id, "object")
    for key in (over, held):
        desk.store.put(key, b"x")
    desk.clock.advance(seconds=1060)
    assert "staged bodies deleted" not in done(desk)
    desk.clock.advance(seconds=1)
    assert done(desk)["staged bodies deleted"] == 1
    assert desk.store.missing([over, held]) == {over}


def test_markers_of_quotas_go_with_their_leases_and_days(desk: Desk) -> None:
    key = desk.caller.identity.id
    desk.store.put(LAYOUT.quota(key, f"used/{desk.clock.now:%Y%m%d}-10-1-abc"), b"{}")
    desk.publish("/sw", {"a": b"1"})
    desk.lease("/other", ttl=7200)
    assert len(list(desk.store.list(LAYOUT.quota()))) == 3
    assert "markers of quotas deleted" not in done(desk)
    desk.clock.advance(seconds=61)
    assert done(desk)["markers of quotas deleted"] == 1
    desk.clock.advance(days=2)
    assert done(desk)["markers of quotas deleted"] == 1


def test_steps_run_when_they_are_due_and_go_a_day_after_their_end(desk: Desk) -> None:
    due = Step(kind="some", id="due", due=desk.clock.now + timedelta(seconds=30))
    desk.store.put(LAYOUT.step("some", "due"), due.pack())
    desk.store.put(LAYOUT.step("some", "over"), replace_due(due).pack())
    assert tend(desk).follow_ups == ()
    desk.clock.advance(seconds=30)
    (event,) = tend(desk).follow_ups
    assert (event.kind, event.id, dict(event.parameters)) == ("some", "due", {"id": "due"})
    desk.clock.advance(days=2)
    tend(desk)
    assert [stat.key for stat in desk.store.list(LAYOUT.step("some"))] == [LAYOUT.step("some", "due")]


def replace_due(step: Step) -> Step:
    return Step(kind=step.kind, id="over", due=None)


# -- what is signed --------------------------------------------------------------------------------------------------


def put_ahead(desk: Desk) -> None:
    """A reflog that is newer than the manifest, as if a commit had died between the two."""
    with Reflog.parse(desk.store.get(LAYOUT.reflog).data) as reflog:
        reflog.add(RefKind.CATALOG, Algorithm.SHA1.digest(b"lost"), 1)
        desk.store.put(LAYOUT.reflog, reflog.pack())


def test_a_reflog_that_is_ahead_gets_the_manifest_signed_again_and_nothing_else_changes(desk: Desk) -> None:
    desk.publish("/sw", {"a": b"1"})
    before = reader(desk.store).manifest
    put_ahead(desk)
    assert done(desk)["manifests signed"] == 1
    after = reader(desk.store).manifest
    right = Algorithm.SHA1.digest(desk.store.get(LAYOUT.reflog).data)
    assert after == replace(before, reflog=right)
    assert desk.problems() == []
    assert "manifests signed" not in done(desk)


def test_while_somebody_commits_the_manifest_is_left_to_him(desk: Desk) -> None:
    put_ahead(desk)
    desk.store.put(LAYOUT.lock, records.pack(Lock(held=True, owner="somebody", gen=1)))
    assert "manifests signed" not in done(desk)


def test_a_damaged_reflog_is_not_vouched_for(desk: Desk) -> None:
    before = desk.store.get(LAYOUT.manifest).data
    for data in (b"rubbish", lacking(desk)):
        desk.store.put(LAYOUT.reflog, data)
        warnings = said(tend(desk))["warnings"]
        assert len(warnings) == 1
        assert warnings[0].startswith("reflog: ")
    assert desk.store.get(LAYOUT.manifest).data == before


def lacking(desk: Desk) -> bytes:
    with Reflog.parse(desk.store.get(LAYOUT.reflog).data) as reflog:
        reflog.remove(reader(desk.store).manifest.root)
        return reflog.pack()


def expiry(desk: Desk) -> float:
    """Days that the whitelist is still good."""
    found = Whitelist.parse(signed.split(desk.store.get(LAYOUT.whitelist).data).body)
    return (found.expires - desk.clock.now) / timedelta(days=1)


def test_the_whitelist_is_renewed_ahead_of_its_end(desk: Desk) -> None:
    desk.clock.advance(days=19)
    assert done(desk) == {}
    desk.clock.advance(days=2)
    assert done(desk)["whitelists signed"] == 1
    assert expiry(desk) == 30


def test_without_the_master_key_the_owner_is_told_in_time(desk: Desk) -> None:
    whole = keys()
    desk.keys = RepositoryKeys(whole.fqrn, whole.certificate, whole.public_key, whole._key, None)
    desk.clock.advance(days=21)
    (warning,) = said(tend(desk))["warnings"]
    assert "stratus resign" in warning
    assert expiry(desk) < 10


# -- receipts --------------------------------------------------------------------------------------------------------


def ids(desk: Desk, prefix: str) -> set[str]:
    return {stat.key.removeprefix(prefix) for stat in desk.store.list(prefix)}


def test_receipts_are_in_the_ledger_before_they_go(desk: Desk) -> None:
    first, second, third = (desk.publish(path, {"a": b"1"}) for path in ("/one", "/two", "/three"))
    assert done(desk)["receipts recorded"] == 3
    assert "receipts recorded" not in done(desk)
    desk.clock.advance(days=31)
    desk.publish("/four", {"a": b"1"})
    fresh = desk.publish("/five", {"a": b"1"})
    found = done(desk)
    assert (found["receipts deleted"], found["change sets deleted"]) == (3, 3)
    recorded = {entry.id for entry in flows.run(ledger.recorded(LAYOUT), desk.store)}
    assert {first, second, third, fresh} <= recorded
    assert not {first, second, third} & (ids(desk, LAYOUT.receipt()) | ids(desk, LAYOUT.change_set("")))
    assert fresh in ids(desk, LAYOUT.receipt())


def test_many_receipts_are_recorded_some_each_minute(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_AT_ONCE", 2)
    for number in range(3):
        desk.publish(f"/p{number}", {"a": b"1"})
    assert [done(desk).get("receipts recorded") for _ in range(3)] == [2, 1, None]


def test_a_receipt_stays_while_the_newest_revision_names_its_outcome(desk: Desk) -> None:
    published = desk.publish("/one", {"a": b"1"})
    tend(desk)
    desk.clock.advance(days=31)
    tend(desk)
    assert published in ids(desk, LAYOUT.receipt())
    desk.publish("/two", {"a": b"1"})
    desk.clock.advance(hours=2)
    tend(desk)
    assert published not in ids(desk, LAYOUT.receipt())


def test_a_change_set_that_waits_keeps_its_body_however_old(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))
    desk.store.put(LAYOUT.change_set("a" * 20), b"of somebody who gave up")
    desk.store.put(LAYOUT.staged("a" * 20, "change-set"), b"and staged it")
    desk.clock.advance(days=40)
    reply = tend(desk)
    assert ids(desk, LAYOUT.change_set("")) == {lease.id}
    assert list(desk.store.list(f"{LAYOUT.private}staging/")) == []
    desk.follow(reply)
    assert desk.receipt(lease.id) is not None


# -- whatever fails, and whoever dies --------------------------------------------------------------------------------


def test_a_task_that_fails_is_named_and_the_others_are_done(desk: Desk) -> None:
    desk.lease("/short", ttl=10)
    desk.clock.advance(seconds=20)
    desk.store.put(LAYOUT.step("some", "bad"), b"no step")
    found = said(tend(desk))
    assert found["done"]["leases expired"] == 1
    assert [warning.partition(":")[0] for warning in found["warnings"]] == ["steps"]


def test_without_time_nothing_is_begun(desk: Desk) -> None:
    desk.seconds = 1.0
    assert len(said(tend(desk))["warnings"]) == len(_TASKS)


def busy() -> tuple[Desk, str, str]:
    """Something to do for every task, and two change sets: published long ago, waiting now."""
    desk = new_desk()
    old = desk.publish("/old", {"a": b"1"})
    desk.publish("/new", {"a": b"2"})
    desk.clock.advance(days=31)
    desk.store.put(LAYOUT.waiting("a!!one"), b"{}")
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"3"}))
    desk.ask("lease.acquire", messages.pack(LeaseRequest(path="/dead", ttl=10)))
    put_ahead(desk)
    desk.clock.advance(seconds=100)
    return desk, old, lease.id


def at(index: int, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.index == index else Fault.PASS


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL, Fault.LOSE])
def test_killed_or_failed_at_any_request_the_next_minutes_make_it_good(fault: Fault) -> None:
    begun, old, waiting = busy()
    index, hit = 0, True
    while hit:
        desk = begun.copy()
        faulty = FaultyStore(desk.store, at(index, fault))
        hit = False
        try:
            reply = desk.ask("tend", system=True, store=faulty)
            hit = fault in (Fault.FAIL, Fault.LOSE) and index < 60
        except Killed:
            hit = True
        else:
            desk.follow(reply)
        for _ in range(2):
            desk.clock.advance(minutes=61)
            desk.follow(tend(desk))
        receipt = desk.receipt(waiting)
        assert receipt is not None
        assert receipt.state == "published"
        recorded = [entry.id for entry in flows.run(ledger.recorded(LAYOUT), desk.store)]
        assert len(recorded) == len(set(recorded)) == 3
        assert old not in ids(desk, LAYOUT.receipt())
        assert content(desk.store)["sw/a"] == b"3"
        assert desk.problems() == []
        index += 1 if fault in (Fault.DIE, Fault.DIE_AFTER) else 3
    assert index > 20


def test_a_receipt_says_the_same_after_all_that() -> None:
    desk, _, waiting = busy()
    desk.follow(tend(desk))
    (blob,) = [desk.store.get(LAYOUT.receipt(name)) for name in ids(desk, LAYOUT.receipt()) if name == waiting]
    assert Receipt.parse(blob.data).revision == reader(desk.store).manifest.revision
    assert of(desk.lease("/sw"))["path"] == "/sw"
