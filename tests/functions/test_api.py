"""Leases, submissions, receipts: what a writer may do, and what is refused with which reason."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from msgspec.structs import replace

from stratus.catalogs.workbench import store_catalog
from stratus.errors import LeaseHeld, Rejected
from stratus.formats import change_file, condemned, messages, records
from stratus.formats.catalog import Catalog
from stratus.formats.changes import Attach, Put, Tag
from stratus.formats.claim import Claim
from stratus.formats.entries import Entry, Kind, Row, Transition
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.messages import ClaimList, LeaseRenewed, LeaseRequest, Queued, QueueInfo, Status
from stratus.formats.records import Collection, Settings
from stratus.formats.step import Step
from stratus.functions import inspection
from stratus.leases import writer_keys
from stratus.stores import flows
from stratus.stores.memory import MemoryStore
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from stratus.trust.identity import Identity
from tests.functions.desk import LAYOUT, Clock, Desk, caller, file, new_desk, of, of_changes, problem, said
from tests.repositories import content, new_repository, problems


@pytest.fixture
def desk() -> Desk:
    return new_desk()


# -- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_says_all_that_a_publish_starts_from(desk: Desk) -> None:
    lease = desk.lease("/sw", ttl=100)
    assert lease.base.revision == 1
    assert (lease.expires - desk.clock.now).total_seconds() == 100
    assert lease.settings.compression == "fast"
    assert (lease.gc.n, lease.gc.phase) == (0, "quiet")
    assert lease.token.startswith(f"{lease.id}.")


def test_a_lease_does_not_tell_where_the_owner_is_told() -> None:
    clock = Clock()
    store = new_repository(MemoryStore(clock=clock), Settings(webhooks=("https://example.org/secret",)))
    assert Desk(clock, store, caller(store)).lease().settings.webhooks == ()


def test_a_lease_that_overlaps_is_refused_with_who_and_how_long(desk: Desk) -> None:
    desk.lease("/sw", host="laptop")
    reply = desk.ask("lease.acquire", messages.pack(LeaseRequest(path="/sw/deep")), caller=caller(desk.store, "bob"))
    found = problem(reply)
    assert (reply.status, found.code, found.holder, found.host) == (409, "lease_held", "alice", "laptop")
    assert dict(reply.headers)["Retry-After"] == "30"
    assert isinstance(found.error(), LeaseHeld)


def test_what_waits_says_nothing_of_secrets(desk: Desk) -> None:
    lease = desk.lease("/sw")
    reply = desk.ask("lease.list")
    (found,) = messages.parse(reply.body, ClaimList).leases
    assert (found.id, found.path, found.writer, found.state) == (lease.id, "/sw", "alice", "open")
    assert lease.token.partition(".")[2].encode() not in reply.body
    assert Claim.parse(desk.store.get(claim_of(desk)).data).secret.encode() not in reply.body


def claim_of(desk: Desk) -> str:
    return next(stat.key for stat in desk.store.list(LAYOUT.lease("")))


def test_a_key_leases_below_its_grants_only(desk: Desk) -> None:
    bob = caller(desk.store, "bob", b"/home/bob")
    for path, status in (("/home/bob/x", 201), ("/home", 403), ("/home/bobby", 403), (None, 403), ("/home/../x", 400)):
        reply = desk.ask("lease.acquire", messages.pack(LeaseRequest(path=path)), caller=bob)
        assert reply.status == status, path


def test_a_revoked_key_can_do_nothing_more_not_even_with_its_lease(desk: Desk) -> None:
    lease = desk.lease("/sw")
    revoked = flows.run(writer_keys.revoke(LAYOUT, desk.caller.identity.id), desk.store)
    desk.caller = replace(desk.caller, identity=Identity.of_key(revoked))
    for kind in ("lease.renew", "submit", "receipt", "queue", "lease.list", "lease.break"):
        assert problem(desk.ask(kind, **of(lease))).code == "not_permitted", kind


def test_renewing_and_releasing_take_the_token_and_the_same_writer(desk: Desk) -> None:
    lease = desk.lease("/sw")
    other = desk.lease("/other")
    desk.clock.advance(seconds=50)
    for kind in ("lease.renew", "lease.release", "submit"):
        assert desk.ask(kind, **{**of(lease), "lease": other.token}).status == 403
        assert desk.ask(kind, **{**of(lease), "lease": ""}).status == 403
        assert desk.ask(kind, caller=caller(desk.store, "bob"), **of(lease)).status == 403
    renewed = messages.parse(desk.ask("lease.renew", **of(lease)).body, LeaseRenewed)
    assert renewed.expires is not None
    assert (renewed.expires - desk.clock.now).total_seconds() == 300
    assert desk.ask("lease.release", **of(lease)).status == 204
    assert desk.ask("lease.release", **of(lease)).status == 204
    assert problem(desk.ask("lease.renew", **of(lease))).code == "lease_lost"
    desk.lease("/sw")


def test_a_dead_claim_is_not_brought_back_by_renewing(desk: Desk) -> None:
    lease = desk.lease("/sw", ttl=10)
    desk.clock.advance(seconds=20)
    desk.ask("tend", system=True)
    assert desk.ask("lease.renew", **of(lease)).status == 410
    assert desk.submit(lease, desk.change_set(lease, {"a": b"1"})).status == 410


def test_a_lease_under_which_a_change_set_waits_is_neither_released_nor_broken(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))
    assert messages.parse(desk.ask("lease.renew", **of(lease)).body, LeaseRenewed).expires is None
    assert desk.ask("lease.release", **of(lease)).status == 204
    assert desk.ask("lease.break", **of(lease)).status == 409
    assert Claim.parse(desk.store.get(claim_of(desk)).data).state == "sealed"


def test_who_may_lease_a_path_may_break_its_lease(desk: Desk) -> None:
    lease = desk.lease("/sw")
    bob, admin = caller(desk.store, "bob", b"/home"), caller(desk.store, "admin")
    assert desk.ask("lease.break", caller=bob, id=lease.id, path="/sw").status == 403
    assert desk.ask("lease.break", caller=admin, id=lease.id, path="/sw").status == 204
    assert desk.ask("lease.renew", **of(lease)).status == 410


# -- submitting ------------------------------------------------------------------------------------------------------


def test_a_publish_ends_in_one_receipt_and_submitting_again_gives_it(desk: Desk) -> None:
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {"a": b"one", "b": b"two"}, message="first")
    reply = desk.submit(lease, change_set)
    assert (reply.status, messages.parse(reply.body, Queued).state) == (202, "queued")
    assert [event.kind for event in reply.follow_ups] == ["commit"]
    assert len(messages.parse(desk.ask("queue").body, QueueInfo).entries) == 1
    assert desk.submit(lease, change_set).status == 202
    desk.follow(reply)
    receipt = desk.receipt(lease.id)
    assert receipt is not None
    assert (receipt.state, receipt.revision, receipt.writer, receipt.message) == ("published", 2, "alice", "first")
    again = desk.submit(lease, change_set)
    assert (again.status, again.body) == (200, receipt.pack())
    assert content(desk.store) == {"sw": None, "sw/a": b"one", "sw/b": b"two"}
    assert problems(desk.store, data=True) == []


def test_a_second_change_set_under_one_lease_is_refused(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"one"}))
    reply = desk.submit(lease, desk.change_set(lease, {"a": b"two"}))
    assert problem(reply).reason == "other_change_set"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "a" * 20),
        ("repository", "other.example.org"),
        ("writer", "bob"),
        ("path", b"/swx"),
        ("path", b""),
        ("path", b"/sw/../x"),
    ],
)
def test_a_change_set_that_is_not_of_the_lease_is_refused(desk: Desk, field: str, value: Any) -> None:
    lease = desk.lease("/sw")
    found = problem(desk.submit(lease, desk.change_set(lease, {"a": b"1"}, **{field: value})))
    assert (found.status, found.code, found.reason) == (422, "rejected", "bad_change_set")
    assert isinstance(found.error(), Rejected)


@pytest.mark.parametrize("path", ["/swx/a", "/other", "/sw/../other", "/sw//a", "/sw/" + "n" * 256])
def test_a_record_outside_of_the_lease_is_refused(desk: Desk, path: str) -> None:
    lease = desk.lease("/sw")
    desk.keep(b"1")
    found = problem(desk.submit(lease, of_changes(lease, [Put(file(path, b"1"))])))
    assert found.reason in ("outside_of_lease", "bad_path")
    assert list(desk.store.list(LAYOUT.queue())) == []


def test_tags_take_a_lease_of_everything_or_of_no_path(desk: Desk) -> None:
    lease = desk.lease("/sw")
    assert problem(desk.submit(lease, of_changes(lease, [Tag("v1")]))).reason == "outside_of_lease"
    pathless = desk.lease(None)
    desk.keep(b"1")
    assert problem(desk.submit(pathless, of_changes(pathless, [Put(file("/a", b"1"))]))).reason == "outside_of_lease"
    desk.follow(desk.submit(pathless, of_changes(pathless, [Tag("v1", 1)])))
    receipt = desk.receipt(pathless.id)
    assert receipt is not None
    assert receipt.state == "published"


def test_objects_that_are_missing_damaged_or_not_listed_are_refused_before_anything_is_sealed(desk: Desk) -> None:
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {"a": b"one", "b": b"two"})
    one, _ = change_set.objects
    sound = desk.store.get(LAYOUT.object(one)).data
    desk.store.put(LAYOUT.object(one), b"something else")
    found = problem(desk.submit(lease, change_set))
    assert found.reason == "objects_damaged"
    assert str(one) in found.detail
    desk.store.delete([LAYOUT.object(one)])
    assert problem(desk.submit(lease, change_set)).reason == "objects_missing"
    desk.store.put(LAYOUT.object(one), sound)
    assert problem(desk.submit(lease, replace(change_set, objects=(one,)))).reason == "bad_change_set"
    assert desk.submit(lease, change_set).status == 202


def test_what_the_tree_has_already_is_not_read_again(desk: Desk) -> None:
    desk.publish("/sw", {"a": b"one"})
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {"a": b"one", "b": b"one"})
    read: list[str] = []
    store = desk.store.observed(lambda exchange: read.append(exchange.key) if exchange.verb == "get" else None)
    assert desk.ask("submit", change_file.pack(change_set), store=store, **of(lease)).status == 202
    assert not {LAYOUT.object(one) for one in change_set.objects} & set(read)


def test_a_large_change_set_is_staged_and_named_by_its_hash(desk: Desk) -> None:
    lease = desk.lease("/sw")
    packed = change_file.pack(desk.change_set(lease, {"a": b"1"}))
    digest = change_file.digest(packed)
    assert desk.ask("submit", staged=digest, **of(lease)).status == 400
    desk.store.put(LAYOUT.staged(lease.id, "change-set"), packed + b"x")
    assert desk.ask("submit", staged=digest, **of(lease)).status == 400
    desk.store.put(LAYOUT.staged(lease.id, "change-set"), packed)
    assert desk.ask("submit", staged=digest, **of(lease)).status == 202
    assert desk.submit(lease, b"x" * (messages.LARGEST_INLINE + 1)).status == 400


def test_nonsense_is_refused_not_a_crash(desk: Desk) -> None:
    lease = desk.lease("/sw")
    for body in (b"", b"{}", b"stratus change set 1\n", change_file.pack(desk.change_set(lease, {"a": b"1"}))[:-3]):
        assert problem(desk.submit(lease, body)).reason == "bad_change_set"
    for body in (b"", b"[]", b'{"path": 1}', b'{"path": "/a", "ttl": 1e9}', b'{"path": "\\ud800"}'):
        assert desk.ask("lease.acquire", body).status == 400
    assert desk.ask("lease.renew", id="../lock", path="/sw", lease=lease.token).status == 400
    assert desk.ask("receipt", id="../lock").status == 400
    assert desk.ask("nothing").status == 400


def test_what_a_sweep_is_about_to_delete_is_refused_until_it_is_over(desk: Desk) -> None:
    sweep(desk, "sweep", [])
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {"a": b"one"})
    sweep(desk, "sweep", list(change_set.objects))
    reply = desk.submit(lease, change_set)
    assert (problem(reply).code, "Retry-After" in dict(reply.headers)) == ("busy", True)
    sweep(desk, "quiet", list(change_set.objects))
    assert desk.submit(lease, change_set).status == 202


def sweep(desk: Desk, phase: Any, objects: list[ObjectId]) -> None:
    for shard in range(256):
        name = f"{shard:02x}"
        found = [one for one in objects if condemned.shard_of(one) == name]
        desk.store.put(LAYOUT.condemned("1-nonce", name), condemned.pack(found))
    desk.store.put(LAYOUT.collection, records.pack(Collection(n=1, phase=phase, lists=("1-nonce",))))


def test_a_catalog_that_is_attached_is_looked_into(desk: Desk) -> None:
    top = Entry(b"/sw/new", Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
    data = desk.keep(b"data")
    with Catalog.create(Row(top, links=2, transition=Transition.ROOT)) as catalog:
        catalog.put(Row(file("/sw/new/.cvmfscatalog", b"")))
        catalog.put(Row(file("/sw/new/a", b"data")))
        catalog.set_property("revision", 1)
        catalog.set_property("last_modified", 1)
        stored = store_catalog(b"/sw/new", catalog, Algorithm.SHA1)
        attach = Attach(top, 2, stored.id.digest, stored.size, catalog.own)
    lease = desk.lease("/sw")
    complete = of_changes(lease, [attach])
    assert problem(desk.submit(lease, complete)).reason == "objects_missing"
    desk.store.put(LAYOUT.object(stored.id), stored.stored)
    assert problem(desk.submit(lease, complete)).reason == "bad_change_set"  # the file's object is not listed
    complete = replace(complete, objects=(*complete.objects, data, desk.keep(b"")))
    lying = replace(attach, counters={**attach.counters, "regular": 7})
    assert problem(desk.submit(lease, replace(complete, changes=[lying]))).reason == "bad_attach"
    desk.follow(desk.submit(lease, complete))
    assert content(desk.store)["sw/new/a"] == b"data"
    assert problems(desk.store) == []


# -- more than fits into one invocation ------------------------------------------------------------------------------


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_FEW", 1)
    monkeypatch.setattr(inspection, "_MANY", 1)


def test_what_does_not_fit_goes_on_by_itself(desk: Desk, one_by_one: None) -> None:
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {name: name.encode() for name in "abcdef"})
    desk.seconds = 0.0
    reply = desk.submit(lease, change_set)
    assert (reply.status, messages.parse(reply.body, Queued).state) == (202, "checking")
    assert [event.kind for event in reply.follow_ups] == ["submit"]
    assert messages.parse(desk.ask("receipt", id=lease.id).body, Queued).state == "checking"
    invocations = desk.follow(reply)
    assert len([one for one in invocations if b"checking" in one.body]) == 5
    desk.seconds = 60.0
    desk.follow(desk.ask("receipt", id=lease.id, wake="yes"))
    receipt = desk.receipt(lease.id)
    assert receipt is not None
    assert receipt.state == "published"
    assert list(desk.store.list(f"{LAYOUT.private}steps/submit")) == []


def test_a_refusal_after_the_reply_is_told_with_the_receipt(desk: Desk, one_by_one: None) -> None:
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {name: name.encode() for name in "abcdef"})
    last = max(change_set.objects, key=str)
    stored = desk.store.get(LAYOUT.object(last)).data
    desk.store.delete([LAYOUT.object(last)])
    desk.seconds = 0.0
    desk.follow(desk.submit(lease, change_set))
    assert problem(desk.ask("receipt", id=lease.id)).reason == "objects_missing"
    desk.store.put(LAYOUT.object(last), stored)
    desk.seconds = 60.0
    desk.follow(desk.submit(lease, change_set))
    assert desk.receipt(lease.id) is not None


def test_a_follow_up_that_was_lost_is_found_by_tend(desk: Desk, one_by_one: None) -> None:
    lease = desk.lease("/sw")
    desk.seconds = 0.0
    desk.submit(lease, desk.change_set(lease, {"a": b"1", "b": b"2"}))
    desk.seconds = 60.0
    assert desk.ask("tend", system=True).follow_ups == ()
    desk.clock.advance(seconds=91)
    reply = desk.ask("tend", system=True)
    assert [(event.kind, event.id) for event in reply.follow_ups] == [("submit", lease.id)]
    desk.follow(reply)
    assert desk.receipt(lease.id) is not None


def test_a_step_without_a_lease_says_so_and_one_that_is_over_does_nothing(desk: Desk, one_by_one: None) -> None:
    lease = desk.lease("/sw")
    desk.seconds = 0.0
    reply = desk.submit(lease, desk.change_set(lease, {"a": b"1", "b": b"2"}))
    desk.ask("lease.release", **of(lease))
    desk.follow(reply)
    assert problem(desk.ask("receipt", id=lease.id)).code == "lease_lost"
    (step,) = desk.store.list(LAYOUT.step("submit"))
    assert Step.parse(desk.store.get(step.key).data).due is None
    assert desk.ask("submit", system=True, id=lease.id).status == 204
    assert desk.ask("submit", system=True, id="a" * 20).status == 204


# -- reading ---------------------------------------------------------------------------------------------------------


def test_an_unknown_change_set_has_no_receipt(desk: Desk) -> None:
    assert problem(desk.ask("receipt", id="a" * 20)).status == 404


def test_whoever_waits_wakes_a_committer_if_there_is_none(desk: Desk) -> None:
    lease = desk.lease("/sw")
    desk.submit(lease, desk.change_set(lease, {"a": b"1"}))  # and its follow-up is lost
    assert desk.ask("receipt", id=lease.id).follow_ups == ()
    reply = desk.ask("receipt", id=lease.id, wake="yes")
    assert (reply.status, [event.kind for event in reply.follow_ups]) == (202, ["commit"])


def test_the_status_is_public_but_for_who_commits(desk: Desk) -> None:
    assert said(desk.ask("status", system=True))["revision"] == 1
    lock = records.parse(desk.store.get(LAYOUT.lock).data, records.Lock)
    desk.store.put(LAYOUT.lock, records.pack(records.Lock(held=True, owner="somebody", gen=lock.gen + 1)))
    assert messages.parse(desk.ask("status", system=True).body, Status).committer is None
    assert messages.parse(desk.ask("status").body, Status).committer == "somebody"
    for kind in ("lease.list", "queue", "receipt", "lease.acquire"):
        assert desk.ask(kind, system=True, id="a" * 20).status == 403


# -- dying -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL, Fault.LOSE])
def test_a_submission_that_died_or_failed_anywhere_is_repeated_without_harm(
    fault: Fault, one_by_one: None, desk: Desk
) -> None:
    lease = desk.lease("/sw")
    change_set = desk.change_set(lease, {name: name.encode() for name in "abc"})
    begun, index, hit = desk, 0, True
    while hit:
        desk = begun.copy()
        desk.seconds = index % 2 * 60.0  # in one go, or step by step
        calls: list[Call] = []

        def plan(call: Call, index: int = index, calls: list[Call] = calls) -> Fault:
            calls.append(call)
            return fault if call.index == index else Fault.PASS

        with contextlib.suppress(Killed):
            desk.submit(lease, change_set, store=FaultyStore(desk.store, plan))
        hit = len(calls) > index
        desk.seconds = 60.0
        desk.follow(desk.submit(lease, change_set))
        receipt = desk.receipt(lease.id)
        assert receipt is not None
        assert (receipt.state, receipt.revision) == ("published", 2)
        assert desk.submit(lease, change_set).body == receipt.pack()
        index += 1
    assert index > 5
    assert desk.problems(data=True) == []
