"""Objects that were staged: looked at when they are submitted, and only then brought to their places."""

from __future__ import annotations

import contextlib

import pytest
from msgspec.structs import replace

from stratus.formats import messages, records
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId
from stratus.formats.messages import LeaseGranted, Queued
from stratus.formats.records import Format
from stratus.functions import promotion
from stratus.testing.faults import Call, Fault, FaultyStore, Killed
from tests.functions.desk import LAYOUT, Desk, file, new_desk, of_changes, problem
from tests.repositories import content

FILES = {name: name.encode() * 3 for name in "abcdef"}


def staging_desk() -> Desk:
    """Whose store lets others in, and takes any bytes."""
    desk = new_desk()
    form = records.parse(desk.store.get(LAYOUT.format).data, Format)
    form = replace(form, capabilities={**form.capabilities, "grants": True, "checksums": False})
    desk.store.put(LAYOUT.format, records.pack(form))
    return desk


@pytest.fixture
def desk() -> Desk:
    return staging_desk()


@pytest.fixture
def two_by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "_AT_ONCE", 2)


def staged(desk: Desk, lease: LeaseGranted) -> ChangeSet:
    """A change set whose objects are staged."""
    made = of_changes(lease, [Put(file(f"/sw/{name}", data)) for name, data in FILES.items()])
    for data in FILES.values():
        stored = Compression.ZLIB.pack(data)
        desk.store.put(key(lease, one_of(made, stored)), stored)
    return made


def one_of(made: ChangeSet, stored: bytes) -> ObjectId:
    (found,) = (one for one in made.objects if one.digest.algorithm.digest(stored) == one.digest)
    return found


def key(lease: LeaseGranted, one: ObjectId) -> str:
    return LAYOUT.staged(lease.id, str(one))


def left(desk: Desk) -> list[str]:
    return [stat.key for stat in desk.store.list(f"{LAYOUT.private}staging/")]


def test_what_was_staged_is_published_and_gone(desk: Desk) -> None:
    lease = desk.lease()
    desk.follow(desk.submit(lease, staged(desk, lease)))
    assert content(desk.store) == {"sw": None, **{f"sw/{name}": data for name, data in FILES.items()}}
    assert left(desk) == []
    assert desk.problems(data=True) == []


def test_what_does_not_fit_into_one_invocation_goes_on(desk: Desk, two_by_two: None) -> None:
    lease = desk.lease()
    made = staged(desk, lease)
    desk.seconds = 0.0
    reply = desk.submit(lease, made)
    assert messages.parse(reply.body, Queued).state == "checking"
    assert len(left(desk)) == 4
    desk.follow(reply)
    assert left(desk) == []
    desk.seconds = 60.0
    desk.follow(desk.submit(lease, made))
    assert content(desk.store)["sw/a"] == FILES["a"]


def test_wrong_bytes_never_leave_the_staging_place(desk: Desk) -> None:
    lease = desk.lease()
    made = staged(desk, lease)
    wrong = one_of(made, Compression.ZLIB.pack(FILES["c"]))
    desk.store.put(key(lease, wrong), Compression.ZLIB.pack(b"something else"))
    refused = problem(desk.submit(lease, made))
    assert (refused.status, refused.reason) == (422, "objects_damaged")
    assert str(wrong) in refused.detail
    assert desk.store.missing([LAYOUT.object(wrong)])
    desk.store.put(key(lease, wrong), Compression.ZLIB.pack(FILES["c"]))
    desk.follow(desk.submit(lease, made))
    assert content(desk.store)["sw/c"] == FILES["c"]


def test_what_was_not_uploaded_is_missed(desk: Desk) -> None:
    lease = desk.lease()
    made = staged(desk, lease)
    desk.store.delete(left(desk)[:1])
    assert problem(desk.submit(lease, made)).reason == "objects_missing"


def test_what_nobody_names_is_left_where_it_is(desk: Desk) -> None:
    lease = desk.lease()
    made = staged(desk, lease)
    other = LAYOUT.staged(lease.id, "0" * 40)
    desk.store.put(other, b"nobody's")
    desk.follow(desk.submit(lease, made))
    assert left(desk) == [other]
    assert desk.store.missing([f"{LAYOUT.fqrn}/data/00/{'0' * 38}"])


def test_what_is_staged_by_another_lease_is_not_used(desk: Desk) -> None:
    other, lease = desk.lease("/other"), desk.lease("/sw")
    staged(desk, replace(other, path="/sw"))
    made = of_changes(lease, [Put(file(f"/sw/{name}", data)) for name, data in FILES.items()])
    assert problem(desk.submit(lease, made)).reason == "objects_missing"


def test_an_object_that_is_too_large_to_be_looked_at_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.functions.desk.MEMORY", 8 * 10)
    lease = desk.lease()
    made = staged(desk, lease)
    monkeypatch.setattr("stratus.functions.submission.OF_MEMORY", 8)
    refused = problem(desk.submit(lease, made))
    assert refused.reason == "too_heavy"


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["step by step", "in one go"])
@pytest.mark.parametrize("fault", [Fault.DIE, Fault.DIE_AFTER, Fault.FAIL, Fault.LOSE])
def test_a_promotion_that_died_or_failed_anywhere_goes_on(fault: Fault, seconds: float, two_by_two: None) -> None:
    index, hit = 0, True
    while hit:
        desk = staging_desk()
        lease = desk.lease("/sw")
        made = staged(desk, lease)
        desk.seconds = seconds
        calls: list[Call] = []

        def plan(call: Call, index: int = index, calls: list[Call] = calls) -> Fault:
            calls.append(call)
            return fault if call.index == index else Fault.PASS

        with contextlib.suppress(Killed):
            desk.submit(lease, made, store=FaultyStore(desk.store, plan))
        hit = len(calls) > index
        desk.seconds = 60.0
        desk.follow(desk.submit(lease, made))
        receipt = desk.receipt(lease.id)
        assert receipt is not None
        assert receipt.state == "published"
        assert left(desk) == []
        index += 1
    assert index > (12 if seconds == 0 else 25)
