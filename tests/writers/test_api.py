"""Writers who publish through the API of a real server, with nothing but a key and an account at the store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from msgspec.structs import replace

from stratus.errors import BadSignature, LeaseHeld, LeaseLost, NotPermitted, Rejected
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.entries import Entry, Kind
from stratus.formats.key_record import key_id
from stratus.formats.messages import LARGEST_INLINE
from stratus.formats.receipt import Receipt
from stratus.ingest.contract import Draft, Placement, Warn
from stratus.ingest.sources import open_source
from stratus.stores.directory import DirectoryStore
from stratus.trust.writer_keys import WriterKey
from stratus.writers import api_client
from stratus.writers.api import ApiWriter
from stratus.writers.api_client import ApiClient, LeaseName
from stratus.writers.publish import Options, forecast, publish, remove, tag, untag
from tests.repositories import FQRN, Files, content, problems, reader
from tests.writers.serving import LAYOUT, Office, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with serving(tmp_path_factory.mktemp("api")) as office:
        yield office


@pytest.fixture
def office(server: Office) -> Iterator[Office]:
    """With an empty repository; sound in the end."""
    server.renew()
    yield server
    server.settle()
    assert problems(DirectoryStore(server.store.path), data=True) == []


def put(writer: ApiWriter, files: Mapping[str, bytes | None], path: bytes = b"", **options: Any) -> Receipt:
    return publish(writer, FQRN, path, [Files(files)], writer.name, Options(**options))


def private(store: DirectoryStore) -> set[str]:
    """What kinds of things are in the private part, beside what is there for good."""
    prefix = LAYOUT.private
    kinds = {stat.key.removeprefix(prefix).partition("/")[0] for stat in store.list(prefix)}
    stay = {"format.json", "settings.json", "lock", "gc", "audit", "keys", "ledger", "receipts", "changes", "steps"}
    return kinds - stay - {"quotas"}  # the markers of what is over go later


# -- what a publish does


def test_content_lands_at_the_path_and_is_merged(office: Office) -> None:
    writer = office.writer(office.key("alice"))
    put(writer, {"a": b"1", "d/x": b"2"}, b"/sw")
    receipt = put(writer, {"a": b"one", "d/y": b"3"}, b"/sw", message="more")
    assert content(office.store) == {"sw": None, "sw/a": b"one", "sw/d": None, "sw/d/x": b"2", "sw/d/y": b"3"}
    assert (receipt.writer, receipt.message, receipt.revision) == ("alice", "more", 3)
    assert (receipt.entries.added, receipt.entries.changed, receipt.objects.new) == (1, 1, 2)
    assert [entry.writer for entry in reader(office.store).log()][:2] == ["alice", "alice"]
    office.settle()
    assert private(office.store) == set()


def test_replace_makes_the_path_equal_to_the_source(office: Office) -> None:
    writer = office.writer()
    put(writer, {"other": b"", "sw/a": b"1", "sw/d/x": b"2", "sw/e/f": b"3"})
    put(writer, {"a": b"1", "e": b"4"}, b"/sw", replace=True)
    assert content(office.store) == {"other": b"", "sw": None, "sw/a": b"1", "sw/e": b"4"}


def test_paths_that_are_no_utf8_are_leased_and_published(office: Office) -> None:
    put(office.writer(office.key("alice", b"/\xff +&")), {"a": b"1"}, b"/\xff +&/%2F")
    with reader(office.store).at() as revision:
        assert revision.lookup(b"/\xff +&/%2F/a") is not None


def test_removing_and_tags(office: Office) -> None:
    writer = office.writer()
    put(writer, {"a": b"1", "d/x": b"2"})
    remove(writer, FQRN, b"/d", writer.name, recursive=True)
    tag(writer, FQRN, "old", 2, writer.name)
    tag(writer, FQRN, "new", None, writer.name)
    assert content(office.store) == {"a": b"1"}
    assert content(office.store, "old") == {"a": b"1", "d": None, "d/x": b"2"}
    untag(writer, FQRN, "old", writer.name)
    assert "old" not in [found.name for found in reader(office.store).tags()]


def test_a_rejected_change_set_says_why(office: Office) -> None:
    with pytest.raises(Rejected) as caught:
        remove(office.writer(), FQRN, b"/none", "alice", recursive=True)
    assert caught.value.path == b"/none"
    assert content(office.store) == {}


def test_many_new_files_come_as_catalogs(office: Office) -> None:
    files: dict[str, bytes | None] = {f"{n % 7}/{n}": b"%d" % n for n in range(1500)}
    put(office.writer(), files, b"/many", catalog=True)
    found = content(office.store)
    assert {name: found[f"many/{name}"] for name in files} == files


def test_what_was_stored_is_remembered_for_the_next_publish(office: Office, tmp_path: Path) -> None:
    files: dict[str, bytes | None] = {str(n): os.urandom(100) for n in range(20)}
    put(office.writer(cache=tmp_path), files, b"/one", catalog=True)
    receipt = put(office.writer(cache=tmp_path), files, b"/two", catalog=True)
    assert (receipt.objects.new, receipt.bytes.uploaded) == (0, 0)


def test_several_processes_pack_and_upload(office: Office, tmp_path: Path) -> None:
    files = {f"{n % 7}/{n}": os.urandom(2000) for n in range(600)}
    for name, data in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(data)
    source = [open_source(str(tmp_path / "tree"))]
    options = Options(workers=2, catalog=True)
    expected = forecast(office.writer(), FQRN, b"/sw", source, "alice", options)
    receipt = publish(office.writer(), FQRN, b"/sw", source, "alice", options)
    assert (receipt.objects.new, expected.objects) == (600, receipt.objects)
    assert expected.requests == replace(receipt.requests, get=expected.requests.get)
    found = content(office.store)
    assert {name: found[f"sw/{name}"] for name in files} == files


# -- what a publish would do


def test_a_forecast_is_what_the_publish_then_does_and_stores_nothing(office: Office) -> None:
    writer = office.writer()
    put(writer, {"d/a": b"1"})
    office.settle()
    before = {stat.key for stat in office.store.list("")}
    source = [Files({"a": b"2", "b": b"3", "c": b"1"})]
    expected = forecast(writer, FQRN, b"/d", source, writer.name)
    assert {stat.key for stat in office.store.list("")} == before
    receipt = publish(writer, FQRN, b"/d", source, writer.name)
    assert (expected.entries, expected.objects, expected.bytes) == (receipt.entries, receipt.objects, receipt.bytes)
    # What has to be read depends on what the server has read before.
    assert expected.requests == replace(receipt.requests, get=expected.requests.get)


def test_a_forecast_goes_by_a_manifest_that_is_verified(office: Office) -> None:
    writer = office.writer()
    signed = office.store.get(LAYOUT.manifest).data
    office.store.put(LAYOUT.manifest, signed[:-1] + bytes([signed[-1] ^ 1]))
    with pytest.raises(BadSignature):
        forecast(writer, FQRN, b"", [Files({"a": b"1"})], writer.name)
    office.store.put(LAYOUT.manifest, signed)


# -- who may


def test_a_path_that_is_leased_is_refused_with_who_has_it(office: Office) -> None:
    with office.writer(office.key("alice")).lease(b"/sw"):
        with pytest.raises(LeaseHeld) as caught:
            put(office.writer(office.key("bob")), {"a": b"1"}, b"/sw/deep")
        assert caught.value.holder == "alice"
        assert caught.value.expires is not None
        put(office.writer(office.key("bob")), {"a": b"1"}, b"/other")
    assert content(office.store) == {"other": None, "other/a": b"1"}


def test_somebody_elses_lease_can_be_waited_for(office: Office) -> None:
    client = office.client(office.key("alice"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_client, "_LONGEST_LEASE_PAUSE", 0.2)
        held = office.writer(office.key("alice"))
        with held.lease(b"/sw") as lease:
            waiter = Later(lambda: put(office.writer(office.key("bob")), {"a": b"1"}, b"/sw", wait=30))
            time.sleep(0.3)
            assert [one.id for one in client.leases() if one.writer == "alice"] == [lease.id]
        waiter.result()
    assert content(office.store) == {"sw": None, "sw/a": b"1"}


class Later:
    """Something that is done in a thread."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._threads = ThreadPoolExecutor(1)
        self._done = self._threads.submit(action)

    def result(self) -> Any:
        with self._threads:
            return self._done.result(30)


def test_one_publish_after_another_does_not_meet_its_own_lease(office: Office) -> None:
    writer = office.writer()
    for number in range(5):
        put(writer, {"a": b"%d" % number}, b"/sw")
    assert reader(office.store).manifest.revision == 6


def test_writers_of_different_paths_publish_at_once(office: Office) -> None:
    def work(name: str) -> Callable[[], Any]:
        writer = office.writer(office.key(name, f"/{name}".encode()))
        return lambda: [put(writer, {f"{n}": name.encode()}, f"/{name}".encode()) for n in range(3)]

    names = ("alice", "bob", "carol")
    for done in [Later(work(name)) for name in names]:
        done.result()
    files = {f"{name}/{n}": name.encode() for name in names for n in range(3)}
    assert content(office.store) == {**dict.fromkeys(names), **files}


def test_a_key_publishes_below_its_grants_only(office: Office) -> None:
    writer = office.writer(office.key("bob", b"/home/bob"))
    with pytest.raises(NotPermitted, match="/home"):
        put(writer, {"a": b"1"}, b"/home")
    with pytest.raises(NotPermitted):
        tag(writer, FQRN, "v1", None, writer.name)
    put(writer, {"a": b"1"}, b"/home/bob/x")
    assert content(office.store)["home/bob/x/a"] == b"1"


def test_a_key_that_was_revoked_is_refused_at_once(office: Office) -> None:
    key = office.key()
    writer = office.writer(key)
    put(writer, {"a": b"1"})
    source = Breaking({"a": b"2"}, happens=lambda: office.revoke(key))
    with pytest.raises(NotPermitted, match="revoked"):
        publish(writer, FQRN, b"", [source], writer.name)
    with pytest.raises(NotPermitted, match="revoked"):
        forecast(writer, FQRN, b"", [Files({"a": b"2"})], writer.name)
    assert content(office.store) == {"a": b"1"}


def test_a_stranger_is_refused(office: Office) -> None:
    with pytest.raises(NotPermitted, match="not known"):
        put(office.writer(WriterKey.generate()), {"a": b"1"})


# -- when things go wrong


@dataclass
class Losing:
    """A pool of connections that loses the first answers to some requests."""

    pool: urllib3.PoolManager
    what: tuple[str, str]
    times: int

    def request(self, method: str, url: str, **more: Any) -> urllib3.BaseHTTPResponse:
        reply = self.pool.request(method, url, **more)
        if self.times > 0 and method == self.what[0] and self.what[1] in url:
            self.times -= 1
            raise urllib3.exceptions.ProtocolError("the connection broke")
        return reply

    def clear(self) -> None:
        self.pool.clear()


def losing(office: Office, method: str, part: str, times: int = 1) -> ApiWriter:
    client = office.client(office.key())
    client._pool = Losing(client._pool, (method, part), times)  # type: ignore[assignment]
    client._uploads = Losing(client._uploads, (method, part), times)  # type: ignore[assignment]
    return ApiWriter(office.store, client, office._verify)


def test_a_submission_whose_answer_is_lost_is_repeated_and_published_once(office: Office) -> None:
    receipt = put(losing(office, "POST", "/change-sets/", times=2), {"a": b"1"}, b"/sw")
    assert receipt.revision == 2
    assert reader(office.store).manifest.revision == 2
    assert content(office.store) == {"sw": None, "sw/a": b"1"}


def test_a_lease_whose_answer_is_lost_does_not_stand_in_the_way(office: Office) -> None:
    put(losing(office, "POST", "/leases"), {"a": b"1"}, b"/sw")
    put(losing(office, "GET", "/receipt"), {"b": b"1"}, b"/sw")
    put(losing(office, "DELETE", "/leases"), {"c": b"1"}, b"/sw")
    assert set(content(office.store)) == {"sw", "sw/a", "sw/b", "sw/c"}


def test_an_upload_whose_answer_is_lost_is_repeated_and_counts_as_present(office: Office) -> None:
    receipt = put(losing(office, "PUT", "/objects/"), {"a": b"1", "b": b"2"}, b"/sw")
    assert (receipt.objects.new, receipt.objects.present) == (1, 1)
    put(losing(office, "POST", "/grants"), {"c": b"3"}, b"/sw")
    assert content(office.store) == {"sw": None, "sw/a": b"1", "sw/b": b"2", "sw/c": b"3"}


def test_a_change_set_that_is_too_large_for_a_request_is_staged(office: Office) -> None:
    names = [f"{n:03}-" + os.urandom(100).hex() for n in range(400)]
    targets = {name: os.urandom(3000).replace(b"\0", b"0") for name in names}
    writer = office.writer()
    receipt = publish(writer, FQRN, b"", [Links(targets)], writer.name)
    assert receipt.entries.added == 400
    (size,) = (len(office.store.get(stat.key).data) for stat in office.store.list(LAYOUT.change_set("")))
    assert size > LARGEST_INLINE
    office.settle()
    assert private(office.store) == set()
    with reader(office.store).at() as revision:
        assert {entry.path[1:].decode(): entry.target for entry in revision.walk()} == targets


@dataclass(frozen=True, slots=True)
class Links:
    """A source of symbolic links."""

    links: Mapping[str, bytes]
    name: str = "links"

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        for name, target in self.links.items():
            path = placement.path + b"/" + name.encode()
            yield Draft(path, Kind.SYMLINK, 0o777, 0, 0, len(target), 1, target=target)


def test_a_lease_that_was_broken_is_lost_and_nothing_is_published(office: Office) -> None:
    writer, admin = office.writer(office.key("alice")), office.client(office.key("admin"))
    source = Breaking({"a": b"1"}, happens=lambda: break_all(admin))
    with pytest.raises(LeaseLost):
        publish(writer, FQRN, b"/sw", [source], writer.name)
    assert content(office.store) == {}
    put(office.writer(), {"a": b"2"}, b"/sw")


def break_all(admin: ApiClient) -> None:
    for one in admin.leases():
        admin.break_(LeaseName(one.id, None if one.path is None else one.path.encode()))


@dataclass(frozen=True, slots=True)
class Breaking(Files):
    """A source in whose middle something happens."""

    happens: Callable[[], None] = lambda: None

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        yield from Files.scan(self, placement, warn)
        self.happens()


def test_a_server_may_end_and_begin_again_between_lease_and_submission(tmp_path: Path) -> None:
    with serving(tmp_path) as office:
        writer = office.writer()
        first = urllib3.util.parse_url(office.url).port
        lease = writer.lease(b"/sw")
        held = lease.__enter__()
    with serving(tmp_path, port=first or 0) as office:
        entry = Entry(b"/sw", Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
        writer.submit(ChangeSet(held.id, FQRN, b"/sw", (Put(entry),), base=held.base))
        lease.__exit__(None, None, None)
        assert content(office.store) == {"sw": None}
        assert problems(office.store) == []


def test_the_key_is_named_until_it_is_known_whose_it_is(office: Office) -> None:
    key = office.key("alice")
    assert office.writer(key).name == f"key {key_id(key.public_key)}"
    start = office.client(key).status().start
    assert start is not None
    assert start.writer == "alice"


def test_nothing_is_said_of_settings_to_strangers(office: Office) -> None:
    with urllib3.PoolManager() as pool:
        found = pool.request("GET", f"{office.url}/api/v1/repositories/{FQRN}").json()
    assert found["start"] is None
