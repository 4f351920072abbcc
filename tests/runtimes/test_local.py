from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stratus.functions.contract import Event, Reply
from stratus.runtimes.local.budgets import Budget, default_budgets, function_of
from stratus.runtimes.local.runtime import Forward, LocalRuntime
from stratus.runtimes.local.worker import Place
from tests.repositories import FQRN, keys

OTHER = "other.example.org"
MIB = 1 << 20
pytestmark = pytest.mark.anyio
BUDGET = Budget(seconds=20, memory=256 * MIB, workers=2, waiting=8)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def running(
    places: Mapping[str, Place] | None = None,
    tend_every: float = 1000,
    forward: Forward | None = None,
    **changed: Budget,
) -> AsyncIterator[LocalRuntime]:
    budgets = {"api": BUDGET, "commit": BUDGET, "tend": BUDGET} | changed
    runtime = LocalRuntime(places or {}, budgets, "tests.runtimes.handlers:dispatch", tend_every, forward=forward)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def event(do: str, kind: str = "submit", repository: str = FQRN, **parameters: object) -> Event:
    texts = {name: str(value) for name, value in parameters.items()}
    return Event(kind, f"{do}-{time.monotonic_ns()}", repository, {"do": do, **texts})


async def pid_of(runtime: LocalRuntime) -> int:
    return int(json.loads((await runtime.invoke(event("tell"))).body)["pid"])


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def notes_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def problem(reply: Reply) -> tuple[int, str]:
    assert dict(reply.headers)["Content-Type"] == "application/problem+json"
    body = json.loads(reply.body)
    assert body["status"] == reply.status
    return reply.status, body["code"]


async def test_events_of_one_worker_come_one_after_another_and_it_is_kept() -> None:
    async with running(api=Budget(20, 256 * MIB, workers=1, waiting=8)) as runtime:
        replies = await asyncio.gather(*(runtime.invoke(event("tell")) for _ in range(5)))
        told = [json.loads(reply.body) for reply in replies]
        assert {one["pid"] for one in told} <= set(runtime.processes) - {os.getpid()}
        assert len({one["pid"] for one in told}) == 1
        assert {one["threads"] for one in told} == {1}


async def test_what_takes_too_long_is_killed_and_answered() -> None:
    async with running(api=Budget(0.3, 256 * MIB, workers=1, waiting=8)) as runtime:
        pid = await pid_of(runtime)
        reply = await runtime.invoke(event("sleep", seconds=60, notes=os.devnull))
        assert problem(reply) == (504, "too_late")
        assert not is_there(pid)
        assert await pid_of(runtime) != pid


async def test_what_takes_too_much_memory_is_answered_and_its_worker_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with running(api=Budget(20, 256 * MIB, workers=1, waiting=8)) as runtime:
        pid = await pid_of(runtime)
        assert (await runtime.invoke(event("eat", mib=100))).status == 200
        assert problem(await runtime.invoke(event("eat", mib=300))) == (507, "out_of_memory")
        assert not is_there(pid)
        assert await pid_of(runtime) != pid


async def test_threads_and_numbers_fit_into_the_smallest_budget() -> None:
    smallest = min(budget.memory for budget in default_budgets().values())
    async with running(api=Budget(20, smallest, workers=1, waiting=8)) as runtime:
        assert (await runtime.invoke(event("multiply"))).status == 200


async def test_a_worker_that_dies_is_answered_and_replaced() -> None:
    async with running() as runtime:
        assert problem(await runtime.invoke(event("die"))) == (502, "died")
        assert (await runtime.invoke(event("tell"))).status == 200


async def test_a_worker_that_died_while_it_was_idle_is_replaced_without_a_word() -> None:
    async with running(api=Budget(20, 256 * MIB, workers=1, waiting=8)) as runtime:
        pid = await pid_of(runtime)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert await pid_of(runtime) != pid


async def test_a_function_that_fails_is_a_problem_and_its_worker_goes_on() -> None:
    async with running(api=Budget(20, 256 * MIB, workers=1, waiting=8)) as runtime:
        pid = await pid_of(runtime)
        assert problem(await runtime.invoke(event("raise"))) == (500, "failed")
        assert await pid_of(runtime) == pid


async def test_no_more_than_so_many_run_at_once_and_no_more_than_so_many_wait(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with running(api=Budget(20, 256 * MIB, workers=2, waiting=3)) as runtime:
        slow = event("sleep", seconds=0.3, notes=notes)
        replies = await asyncio.gather(*(runtime.invoke(slow) for _ in range(9)))
        statuses = [reply.status for reply in replies]
        assert statuses == [200] * 5 + [429] * 4
        assert problem(replies[-1]) == (429, "busy")
        assert int(dict(replies[-1].headers)["Retry-After"]) >= 1
    busy = 0
    for line in notes_of(notes):
        busy += 1 if line.startswith("begins") else -1
        assert 0 <= busy <= 2


async def test_follow_ups_run_and_nobody_waits_for_them(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with running() as runtime:
        begun = time.monotonic()
        reply = await runtime.invoke(event("follow", then="submit", times=2, seconds=0.3, notes=notes))
        assert reply.status == 202
        assert time.monotonic() - begun < 20
        await until(lambda: sum(line.startswith("ends") for line in notes_of(notes)) == 2)


@pytest.mark.parametrize(
    ("kind", "taken", "forwarded", "here"),
    [
        ("submit", True, 2, 0),
        ("submit", False, 2, 2),
        ("tend", True, 0, 2),
    ],
)
async def test_follow_ups_are_forwarded_but_for_what_tend_found(
    tmp_path: Path, kind: str, taken: bool, forwarded: int, here: int
) -> None:
    notes, seen = tmp_path / "notes", []

    async def forward(event: Event) -> bool:
        seen.append(event)
        return taken

    async with running(forward=forward) as runtime:
        await runtime.invoke(event("follow", kind, then="submit", times=2, seconds=0, notes=notes))
        assert len(seen) == forwarded
        await until(lambda: sum(line.startswith("ends") for line in notes_of(notes)) == here)
        await runtime.invoke(event("tell"))
    assert sum(line.startswith("ends") for line in notes_of(notes)) == here


async def test_without_a_schedule_nothing_is_tended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    async def invoke(self: LocalRuntime, event: Event) -> Reply:
        begun.append(event.kind)
        return Reply(200)

    monkeypatch.setattr(LocalRuntime, "_ask", invoke)
    async with running({FQRN: Place(str(tmp_path), tmp_path)}, tend_every=0):
        await asyncio.sleep(0.3)
    assert begun == []


async def test_a_follow_up_whose_worker_dies_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with running() as runtime:
        await runtime.invoke(event("follow", then="commit", what="die", times=1, notes=notes))
        await until(lambda: len(notes_of(notes)) == 3)
        await runtime.invoke(event("tell", "commit"))
    assert [line.split()[4] for line in notes_of(notes)] == ["1", "2", "3"]


async def test_commits_of_a_repository_run_one_by_one_and_those_that_wait_are_one(tmp_path: Path) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    async with running() as runtime:
        first = asyncio.create_task(runtime.invoke(event("hold", "commit", until=go, notes=notes)))
        await until(lambda: bool(notes_of(notes)))
        await asyncio.gather(
            *(runtime.invoke(event("follow", then="commit", times=5, seconds=0, notes=notes)) for _ in range(3)),
            *(runtime.invoke(event("sleep", "commit", OTHER, seconds=0, notes=notes)) for _ in range(3)),
        )
        go.touch()
        await first
        await until(lambda: len(notes_of(notes)) == 6)
    assert [line.split()[:3:2] for line in notes_of(notes)] == [
        ["begins", FQRN],
        ["begins", OTHER],
        ["ends", OTHER],
        ["ends", FQRN],
        ["begins", FQRN],
        ["ends", FQRN],
    ]


async def test_a_function_has_stores_that_are_counted_keys_and_a_deadline(tmp_path: Path) -> None:
    keys().save(tmp_path)
    places = {FQRN: Place(str(tmp_path / "store"), tmp_path)}
    async with running(places) as runtime:
        for _ in range(2):
            assert (await runtime.invoke(event("count"))).body == b"1"
        told = json.loads((await runtime.invoke(event("context"))).body)
        assert told.pop("left") == pytest.approx(20, abs=2)
        assert told == {"fqrn": FQRN, "memory": 256 * MIB, "gone": False}


async def test_the_schedule_tends_every_repository_and_commits_what_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stratus.repository.layout import Layout
    from stratus.stores.directory import DirectoryStore

    DirectoryStore(tmp_path).put(Layout(FQRN).queue("@!!x"), b"{}")
    begun: list[tuple[str, str]] = []

    async def invoke(self: LocalRuntime, event: Event) -> Reply:
        begun.append((event.kind, event.repository))
        return Reply(200)

    monkeypatch.setattr(LocalRuntime, "_ask", invoke)
    places = {fqrn: Place(str(tmp_path), tmp_path) for fqrn in (FQRN, OTHER)}
    async with running(places, tend_every=0.1):
        await until(lambda: begun.count(("tend", OTHER)) == 3)
    assert begun[:3] == [("commit", FQRN), ("tend", FQRN), ("tend", OTHER)]
    assert begun.count(("commit", OTHER)) == 0


async def test_what_runs_may_end_before_a_stop_and_nothing_begins(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with running() as runtime:
        slow = asyncio.create_task(runtime.invoke(event("sleep", seconds=0.5, notes=notes)))
        await until(lambda: bool(notes_of(notes)))
        processes = runtime.processes
        stop = asyncio.create_task(runtime.stop())
        await asyncio.sleep(0)
        assert problem(await runtime.invoke(event("tell"))) == (503, "busy")
        await stop
        assert (await slow).status == 200
    assert not any(map(is_there, processes))


async def test_a_stop_that_is_cancelled_ends_what_runs(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with running() as runtime:
        slow = [asyncio.create_task(runtime.invoke(event("sleep", seconds=60, notes=notes))) for _ in range(5)]
        await until(lambda: len(notes_of(notes)) == 2)
        processes = runtime.processes
        stop = asyncio.create_task(runtime.stop())
        await asyncio.sleep(0.05)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        statuses = sorted([(await one).status for one in slow])
        assert statuses == [502, 502, 503, 503, 503]
    assert not any(map(is_there, processes))


def test_the_api_has_all_that_no_other_function_has() -> None:
    budgets = default_budgets()
    names = [function_of(event("", kind), budgets) for kind in ("lease.acquire", "status", "commit", "tend", "notify")]
    assert names == ["api", "api", "commit", "tend", "notify"]
