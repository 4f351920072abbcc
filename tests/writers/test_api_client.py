from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
import urllib3

from stratus.errors import Busy, LeaseHeld, NotPermitted, Rejected, StoreError, StratusError, UsageError
from stratus.formats import messages
from stratus.formats.messages import PROBLEM_TYPE, ClaimList, LeaseRequest, Problem, QueueInfo
from stratus.trust.credentials import KeyCredential
from stratus.trust.writer_keys import WriterKey
from stratus.writers import api_client
from stratus.writers.api_client import ApiClient, LeaseName

FQRN = "test.example.org"
Answer = tuple[int, bytes, Mapping[str, str]] | Exception
NOTHING = messages.pack(ClaimList(()))


@dataclass
class Scripted:
    """In the place of connections: what is answered, in order; and what was asked."""

    answers: list[Answer]
    asked: list[tuple[str, str, bytes, Mapping[str, str]]] = field(default_factory=list)

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_: Any) -> Any:
        self.asked.append((method, url, body or b"", headers))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, data, more = answer
        return urllib3.HTTPResponse(data, more, status, preload_content=True)


def client(*answers: Answer) -> tuple[ApiClient, Scripted]:
    found, pool = ApiClient("http://there", FQRN, KeyCredential(WriterKey.generate())), Scripted(list(answers))
    found._pool = pool  # type: ignore[assignment]
    return found, pool


def problem(error: StratusError, status: int, **headers: str) -> Answer:
    fields = {"Content-Type": PROBLEM_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return status, messages.pack(Problem.of(error, status)), fields


BROKEN = urllib3.exceptions.ProtocolError("the connection broke")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_passes_is_asked_again_signed_anew(status: int) -> None:
    asked, pool = client((status, b"", {}), BROKEN, (200, NOTHING, {}))
    assert asked.leases() == ()
    nonces = [headers["Signature-Input"].partition("nonce=")[2] for *_, headers in pool.asked]
    assert len(set(nonces)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 500, 507])
def test_what_does_not_pass_is_an_error_at_once(status: int) -> None:
    asked, pool = client(problem(NotPermitted("no", hint="ask"), status))
    with pytest.raises(NotPermitted, match="no"):
        asked.leases()
    assert len(pool.asked) == 1


def test_retry_after_is_waited_for() -> None:
    asked, _ = client(problem(Busy("many wait"), 429, Retry_After="1"), (200, NOTHING, {}))
    begun = time.monotonic()
    asked.leases()
    assert 1.0 <= time.monotonic() - begun < 2.0


def test_patience_has_an_end_and_the_last_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_FIRST_PATIENCE", 0.3)
    asked, _ = client(*[BROKEN] * 20)
    with pytest.raises(StoreError, match=r"no answer from http://there: .*broke"):
        asked.queue()
    asked, pool = client(problem(Busy("the server ends"), 503, Retry_After="60"))
    with pytest.raises(Busy):
        asked.renew(LeaseName("a" * 20, b"/sw"), "token", patience=1)
    assert len(pool.asked) == 1


def test_a_server_that_is_not_there_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_FIRST_PATIENCE", 0.3)
    with pytest.raises(StoreError, match="refused") as caught:
        ApiClient("http://127.0.0.1:1", FQRN, KeyCredential(WriterKey.generate())).status()
    assert "`api`" in caught.value.hint


@pytest.mark.parametrize(
    "answer", [(404, b"nothing", {}), (302, b"", {"Location": "/"}), (200, b"<html>", {}), (200, b"{}", {})]
)
def test_who_is_no_api_is_told_so(answer: Answer) -> None:
    asked, _ = client(answer)
    with pytest.raises(StoreError) as caught:
        asked.queue()
    assert "without /api/v1" in caught.value.hint


def test_each_attempt_at_a_lease_supersedes_those_before() -> None:
    held = LeaseHeld("it is being published to", holder="bob", host="there", expires=None)
    asked, pool = client(BROKEN, problem(held, 409), problem(held, 409), problem(Rejected("end", reason="x"), 422))
    with pytest.raises(Rejected):
        asked.acquire(LeaseRequest(path="/sw"), 0)
    bodies = [json.loads(body) for _, _, body, _ in pool.asked]
    assert [body["attempt"] for body in bodies] == [1, 2, 3, 4]
    assert len({body["request"] for body in bodies}) == 1


def test_a_lease_that_somebody_holds_is_not_waited_for_unless_that_is_wanted() -> None:
    held = LeaseHeld("bob has it", holder="bob", host="there", expires=datetime.now(UTC))
    asked, pool = client(problem(held, 409, Retry_After="30"))
    with pytest.raises(LeaseHeld):
        asked.acquire(LeaseRequest(path="/sw"), 0)
    assert len(pool.asked) == 1


def test_attempts_say_for_how_long_there_will_be_more_and_which_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_LONGEST_LEASE_PAUSE", 0.1)
    held = problem(LeaseHeld("bob has it", holder="bob", host="there", expires=datetime.now(UTC)), 409)
    asked, pool = client(*[held] * 50)
    begun = time.monotonic()
    with pytest.raises(LeaseHeld):
        asked.acquire(LeaseRequest(path="/sw"), 0.5)
    assert time.monotonic() - begun >= 0.5
    waits = [json.loads(body)["wait"] for _, _, body, _ in pool.asked]
    assert waits == sorted(waits, reverse=True)
    assert waits.count(0) == 1
    assert 0.4 < waits[0] <= 0.5


@pytest.mark.parametrize(("path", "query"), [(b"/a b/\xff&", b"path=/a b/\xff&"), (b"", b"path="), (None, b"")])
def test_paths_are_bytes_in_urls(path: bytes | None, query: bytes) -> None:
    asked, pool = client((204, b"", {}))
    asked.release(LeaseName("a" * 20, path), "token")
    parts = urlsplit(pool.asked[0][1])
    assert parts.path == f"/api/v1/repositories/{FQRN}/leases/{'a' * 20}"
    assert unquote_to_bytes(parts.query.replace("+", " ")) == query


@pytest.mark.parametrize(
    ("url", "base"),
    [("HTTP://There:80/", "http://there"), ("https://a:443/x/", "https://a/x"), ("http://[::1]:80", "http://[::1]")],
)
def test_urls_are_as_the_server_sees_them(url: str, base: str) -> None:
    assert ApiClient(url, FQRN, KeyCredential(WriterKey.generate())).url == base


@pytest.mark.parametrize("url", ["ftp://x", "http://", "x", "http://a@b", "http://a?b", "http://a:b", "http://a:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        ApiClient(url, FQRN, KeyCredential(WriterKey.generate()))


def test_the_queue_is_understood() -> None:
    asked, _ = client((200, messages.pack(QueueInfo((), "somebody")), {}))
    assert asked.queue().committer == "somebody"
