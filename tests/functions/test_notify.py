"""Webhooks are told of each revision, signed; one that fails is told later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import msgspec
import pytest

from stratus.errors import BadSignature
from stratus.formats import records
from stratus.formats.notification import Notification
from stratus.formats.records import Settings
from stratus.formats.step import Step
from stratus.functions import notify as module
from stratus.functions.contract import Event, Reply
from stratus.functions.notify import notify
from stratus.trust import webhook_signatures
from stratus.trust.keys import RepositoryKeys
from tests.functions.desk import LAYOUT, Desk, new_desk, said
from tests.repositories import FQRN, keys


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A web server of somebody; answers with ``statuses``, in the end always with the last one."""

    url: str
    statuses: list[int] = field(default_factory=lambda: [204])
    posts: list[Post] = field(default_factory=list)

    def status(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class _Server(ThreadingHTTPServer):
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = cast(_Server, self.server).receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.posts.append(Post(self.path, dict(self.headers), body))
        status = receiver.status()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"{receiver.url}/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.receiver
        server.shutdown()
        thread.join()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    return new_desk()


def set_webhooks(desk: Desk, *urls: str) -> None:
    found = records.parse(desk.store.get(LAYOUT.settings).data, Settings)
    desk.store.put(LAYOUT.settings, records.pack(msgspec.structs.replace(found, webhooks=urls)))


def tell(desk: Desk, revision: int = 1) -> Reply:
    event = Event("notify", f"notify-{revision}", FQRN, {"revision": str(revision), "root": "00"})
    return notify(event, desk.context())


def retry(desk: Desk, step: Step) -> Reply:
    """As `tend` has it done."""
    return notify(Event("notify", step.id, FQRN, {"id": step.id}, attempt=step.attempt), desk.context())


def steps(desk: Desk) -> list[Step]:
    return [Step.parse(desk.store.get(stat.key).data) for stat in desk.store.list(LAYOUT.step("notify"))]


def pending(desk: Desk) -> Step:
    (step,) = steps(desk)
    assert step.due is not None
    return step


def test_each_webhook_gets_the_message_of_the_newest_revision(desk: Desk, receiver: Receiver) -> None:
    set_webhooks(desk, f"{receiver.url}/one?token=1", f"{receiver.url}/two")
    assert said(tell(desk)) == {"revision": 1, "told": 2, "failed": 0}
    assert sorted(post.path for post in receiver.posts) == ["/one?token=1", "/two"]
    for post in receiver.posts:
        found = Notification.parse(post.body)
        assert (found.repository, found.revision) == (FQRN, 1)
        assert found.manifest == desk.store.get(LAYOUT.manifest).data
        assert post.headers["Content-Type"] == "application/json"
    assert steps(desk) == []


def test_receivers_verify_with_the_certificate_alone(desk: Desk, receiver: Receiver) -> None:
    set_webhooks(desk, f"{receiver.url}/hook")
    tell(desk)
    (post,) = receiver.posts
    url, now, certificate = f"{receiver.url}/hook", datetime.now(UTC), keys().certificate
    webhook_signatures.verify(url, post.headers, post.body, certificate, now)
    other = RepositoryKeys.generate(FQRN).certificate
    late = now.replace(year=now.year + 1)
    for wrong in (
        (f"{receiver.url}/other", post.headers, post.body, certificate, now),
        (url, {**post.headers, "Content-Type": "text/plain"}, post.body, certificate, now),
        (url, post.headers, post.body + b" ", certificate, now),
        (url, post.headers, post.body, other, now),
        (url, post.headers, post.body, certificate, late),
        (url, {}, post.body, certificate, now),
    ):
        with pytest.raises(BadSignature):
            webhook_signatures.verify(*wrong)


def test_without_webhooks_nothing_is_done(desk: Desk) -> None:
    assert tell(desk).status == 204
    assert steps(desk) == []


def test_what_passes_is_tried_again_at_once(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [503, 429, 200]
    set_webhooks(desk, receiver.url)
    assert said(tell(desk))["told"] == 1
    assert len(receiver.posts) == 3
    assert steps(desk) == []


def test_a_failing_receiver_leaves_a_step_which_is_run_until_it_is_taken(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [500]
    set_webhooks(desk, receiver.url)
    assert said(tell(desk)) == {"revision": 1, "told": 0, "failed": 1}
    assert len(receiver.posts) == 3
    first = pending(desk)
    assert (first.kind, first.attempt, first.body) == ("notify", 1, {"failure": "it answered 500"})
    assert said(retry(desk, first))["failed"] == 1
    assert len(receiver.posts) == 4
    second = pending(desk)
    assert second.attempt == 2
    assert second.due is not None
    assert first.due is not None
    assert second.due > first.due
    receiver.statuses = [200]
    assert said(retry(desk, second))["told"] == 1
    assert [step.due for step in steps(desk)] == [None]


def test_tending_runs_the_step(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [500]
    set_webhooks(desk, receiver.url)
    tell(desk)
    desk.clock.advance(minutes=2)
    follow_ups = [event for event in desk.ask("tend", system=True).follow_ups if event.kind == "notify"]
    receiver.statuses = [200]
    assert [said(notify(event, desk.context()))["told"] for event in follow_ups] == [1]


def test_a_failing_webhook_has_one_step_however_many_revisions_it_misses(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [500]
    set_webhooks(desk, receiver.url)
    tell(desk)
    before = pending(desk)
    for revision in (2, 3):
        tell(desk, revision)
    assert pending(desk) == before
    assert len(receiver.posts) == 3 + 1 + 1
    receiver.statuses = [200]
    tell(desk, 4)
    assert [step.due for step in steps(desk)] == [None]


def test_after_a_day_it_is_given_up_until_the_next_revision(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [404]
    set_webhooks(desk, f"{receiver.url}/secret")
    begun = desk.clock.now
    tell(desk)
    assert len(receiver.posts) == 1  # such an answer does not pass in a moment
    while (step := steps(desk)[0]).due is not None:
        desk.clock.now = step.due
        retry(desk, step)
    assert 20 < (desk.clock.now - begun).total_seconds() / 3600 < 28
    assert "127.0.0.1 was not told" in caplog.text
    assert "given up" in caplog.text
    assert "secret" not in caplog.text
    tell(desk, 2)
    assert pending(desk).attempt == 1


def test_redirects_are_not_followed(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [307, 200]
    set_webhooks(desk, receiver.url)
    assert said(tell(desk))["failed"] == 1
    assert [post.path for post in receiver.posts] == ["/"]


def test_nobody_there_and_nonsense_are_failures_that_stop_no_others(desk: Desk, receiver: Receiver) -> None:
    set_webhooks(desk, "http://127.0.0.1:1/", "ftp://127.0.0.1/", "", "http://[", receiver.url)
    assert said(tell(desk)) == {"revision": 1, "told": 1, "failed": 4}
    assert len(steps(desk)) == 4


def test_without_time_all_is_left_to_the_steps(desk: Desk, receiver: Receiver) -> None:
    set_webhooks(desk, receiver.url)
    desk.seconds = 1
    assert said(tell(desk))["failed"] == 1
    assert receiver.posts == []
    assert pending(desk).body == {"failure": "there was no time"}


def test_the_step_of_a_webhook_that_was_removed_ends(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [500]
    set_webhooks(desk, receiver.url)
    tell(desk)
    step = pending(desk)
    set_webhooks(desk)
    assert retry(desk, step).status == 204
    assert [step.due for step in steps(desk)] == [None]
