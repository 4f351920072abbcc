"""The container's own server in a process of its own, on a bucket, driven with the CloudEvents SDK."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET
from tests.repositories import FQRN, content, new_repository, problems
from tests.runtimes.containers import NAME, TOKEN, World
from tests.runtimes.publishing import LAYOUT, Writer, expire_lock, over_http


@pytest.fixture
def world(s3_server: LocalS3, tmp_path: Path) -> World:
    prefix = os.urandom(6).hex()
    store = new_repository(s3_server.store(BUCKET, prefix))
    return World.at(store, f"s3://{BUCKET}/{prefix}", s3_server.environment(), tmp_path / "secrets")


def event(kind: str, data: Any = None, subject: str = FQRN, **more: str) -> CloudEvent:
    attributes = {"id": os.urandom(4).hex(), "source": "/tests", "type": f"org.stratus.{kind}", "subject": subject}
    return CloudEvent({**attributes, **more}, data)


def test_the_whole_way_of_a_change_set(world: World) -> None:
    with world.container() as container:
        writer = Writer.new(world.store, container.ask, NAME)
        receipt = writer.receipt(writer.submit("/sw", {"a": b"1", "b": b"2"}))
        assert (receipt.state, receipt.revision, receipt.writer) == ("published", 2, "alice")
        manifest = container.get(f"/cvmfs/{FQRN}/.cvmfspublished")
        assert manifest.status == 200
        assert container.get(f"/cvmfs/.stratus/{FQRN}/settings.json").status == 404
    assert content(world.store) == {"sw": None, "sw/a": b"1", "sw/b": b"2"}
    assert problems(world.store, data=True) == []


def test_follow_ups_go_to_the_sink_and_events_from_there_are_handled(world: World) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []
    with listening(heard) as sink, world.container(K_SINK=sink) as container:
        writer = Writer.new(world.store, container.ask, NAME)
        change_set = writer.submit("/sw", {"a": b"1"})
        (first,) = heard
        assert first[0]["ce-type"] == "org.stratus.commit"
        assert first[0]["ce-subject"] == FQRN
        assert container.send(first[1], first[0]) == 204
        assert writer.receipt(change_set, 1).state == "published"
        assert container.send(first[1], first[0]) == 204  # delivered again
        assert "org.stratus.notify" in [headers["ce-type"] for headers, _ in heard]
    assert content(world.store) == {"sw": None, "sw/a": b"1"}


@pytest.mark.soak
def test_what_a_sink_loses_is_found_by_tend(world: World) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []
    with listening(heard) as sink, world.container(K_SINK=sink, STRATUS_TEND_EVERY="5") as container:
        key = LAYOUT.receipt(Writer.new(world.store, container.ask, NAME).submit("/sw", {"a": b"1"}))
        end = time.monotonic() + 120
        while world.store.missing([key]):
            assert time.monotonic() < end
            time.sleep(1)
        assert len(heard) >= 1
    assert content(world.store) == {"sw": None, "sw/a": b"1"}


def test_a_sink_that_is_away_stops_nothing(world: World) -> None:
    with world.container(K_SINK="http://127.0.0.1:9/") as container:
        writer = Writer.new(world.store, container.ask, NAME)
        assert writer.receipt(writer.submit("/sw", {"a": b"1"})).state == "published"


def test_binary_structured_and_batched_events_and_those_of_stores_and_schedulers(world: World) -> None:
    put = {"Records": [{"s3": {"object": {"key": f".stratus/{FQRN}/queue/sw!!x"}}, "opaqueData": TOKEN}]}
    json_type = {"Content-Type": "application/json"}
    with world.container() as container:
        assert container.post(to_binary_event(event("commit"))) == 204
        assert container.post(to_structured_event(event("tend", {"kind": "tend"}))) == 204
        assert container.post(to_binary_event(event("x", {"kind": "tend"}, type="dev.knative.sources.ping"))) == 204
        assert container.post(to_binary_event(event("x", put, type="com.amazonaws.ObjectCreated"))) == 204
        one = json.loads(JSONFormat().write(event("commit")))
        batch = HTTPMessage({"Content-Type": "application/cloudevents-batch+json"}, json.dumps([one] * 3).encode())
        assert container.post(batch) == 204
        assert container.post(HTTPMessage(json_type, b'{"kind": "tend"}')) == 204
        assert container.send(json.dumps(put).encode(), json_type) == 204  # as Ceph RadosGW sends it


def test_events_of_others_are_refused(world: World) -> None:
    commit = to_binary_event(event("commit"))
    record = json.dumps({"Records": [{"s3": {"object": {"key": "x"}}, "opaqueData": "wrong"}]}).encode()
    with world.container() as container:
        assert container.post(commit, "wrong") == 403
        assert container.post(commit, "") == 403
        assert container.send(commit.body or b"", dict(commit.headers)) == 403
        assert container.send(record, {}) == 403
        assert container.send(b'{"Records": []}', {}) == 403
    with world.container(STRATUS_EVENTS_TOKEN="") as container:
        assert container.post(commit) == 403
    with world.container(STRATUS_EVENTS_TOKEN="", STRATUS_EVENTS="network") as container:
        assert container.post(commit) == 204


def test_what_is_no_event_of_the_system_is_refused(world: World) -> None:
    with world.container() as container:
        assert container.post(to_binary_event(event("lease.acquire"))) == 400
        assert container.post(to_binary_event(event("commit", subject="other.example.org"))) == 404
        assert container.post(HTTPMessage({"ce-specversion": "1.0"}, b"")) == 400
        assert container.post(HTTPMessage({"Content-Type": "application/cloudevents-batch+json"}, b"[7]")) == 400
        assert container.post(HTTPMessage({"Content-Type": "application/cloudevents+json"}, b"[]")) == 400
        assert container.post(HTTPMessage({}, b"x" * (2 << 20))) == 400


def test_probes_say_whether_it_lives_and_whether_the_store_answers(world: World) -> None:
    with world.container() as container:
        assert container.get("/healthz").status == 200
        assert container.get("/readyz").status == 200
    with world.container(STRATUS_STORE="s3://there-is-no-such-bucket") as container:
        assert container.get("/healthz").status == 200
        assert container.get("/readyz").status == 503


def test_without_its_settings_it_says_which_is_missing(world: World) -> None:
    line = [sys.executable, "-m", "stratus.runtimes.http"]
    settings = {**os.environ, **world.environment, "STRATUS_SECRETS": ""}
    done = subprocess.run(line, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "STRATUS_SECRETS is not set" in done.stderr


def test_sigterm_lets_what_runs_end_and_refuses_what_comes(world: World) -> None:
    with world.container() as container:
        writer = Writer.new(world.store, container.ask, NAME)
        with ThreadPoolExecutor() as threads:
            lease = writer.lease("/sw")
            waiting = threads.submit(writer.request, "GET", f"/change-sets/{lease.id}/receipt?wait=1")
            events = [threads.submit(container.post, to_binary_event(event("tend"))) for _ in range(3)]
            time.sleep(0.2)
            container.process.send_signal(signal.SIGTERM)
            assert waiting.result()[0] in (200, 202, 404)
            assert {one.result() for one in events} <= {204, 503}
        workers = container.workers
        assert container.process.wait(30) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("seed", [7, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120))])
def test_every_change_set_ends_in_one_receipt_whatever_is_killed(world: World, seed: int) -> None:
    chance = Random(seed)
    done = threading.Event()
    writers: list[Writer] = []
    with world.container(STRATUS_TEND_EVERY="1") as container:

        def publish(number: int) -> str:
            return writers[number].submit(f"/{number}", {"a": b"%d" % number}, times=50)

        def harm() -> None:
            """Kills workers, and sends events twice, in any order."""
            while not done.wait(chance.uniform(0.1, 0.5)):
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(chance.choice(container.workers), signal.SIGKILL)
                for kind in chance.sample(["commit", "tend", "commit"], 2):
                    container.post(to_binary_event(event(kind)))

        writers += [Writer.new(world.store, container.ask, NAME, f"w{number}") for number in range(6)]
        with ThreadPoolExecutor(8) as threads:
            harming = threads.submit(harm)
            ids = list(threads.map(publish, range(6)))
            time.sleep(1)
            done.set()
            harming.result()
            receipts = [writer.receipt(one) for writer, one in zip(writers, ids, strict=True)]
        world.settle()
    assert [receipt.state for receipt in receipts] == ["published"] * 6
    assert content(world.store) == {
        **{str(number): None for number in range(6)},
        **{f"{number}/a": b"%d" % number for number in range(6)},
    }
    assert problems(world.store, data=True) == []


def test_another_container_goes_on_where_one_was_killed(world: World) -> None:
    with world.container() as one, world.container() as other:
        urls = [one.url, other.url]

        def ask(method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
            """As a balancer does that finds out soon."""
            return over_http(method, url.replace(NAME, urls[hash(headers["Signature"]) % len(urls)]), headers, body)

        def publish(number: int) -> tuple[Writer, str]:
            writer = Writer.new(world.store, ask, NAME, f"w{number}")
            return writer, writer.submit(f"/{number}", {"a": b"1"}, times=50)

        with ThreadPoolExecutor(6) as threads:
            published = [threads.submit(publish, number) for number in range(6)]
            time.sleep(0.5)
            one.process.kill()
            urls.remove(one.url)
            done = [one.result() for one in published]
        expire_lock(world.store)
        assert other.post(to_binary_event(event("commit"))) == 204
        receipts = [writer.receipt(change_set) for writer, change_set in done]
        assert [receipt.state for receipt in receipts] == ["published"] * 6
    assert len(content(world.store)) == 12
    assert problems(world.store, data=True) == []


@contextlib.contextmanager
def listening(heard: list[tuple[dict[str, str], bytes]]) -> Iterator[str]:
    """The URL of a sink that takes everything, and notes it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
