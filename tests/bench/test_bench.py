"""The benchmarks run, on little content, and write what they promise: the numbers mean nothing here."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bench import data, measuring
from bench.measuring import Values
from bench.writers import Ended, _speed
from tests.client.conftest import why_not

MACHINE = {"cores", "processor", "kernel", "python", "load"}


@pytest.fixture(autouse=True)
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is made of a few files, and everything is written where it is removed."""
    monkeypatch.setattr(data, "_ROOTS", (str(Path(json.__file__).parent), str(Path(data.__file__).parents[1] / "src")))
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setenv("STRATUS_BENCH_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("part", "more", "found"),
    [
        ("ingest", ["--ten-gigabytes"], {"small", "s3", "large", "memory", "scaling", "stages", "chunker"}),
        ("commit", ["--million"], {"publishes", "many", "bulk", "logs"}),
        ("startup", ["--imports"], {"starts"}),
        ("mount", [], {"cases"}),
        ("api", [], {"cases"}),
        ("writers", [], {"writers", "folded", "cloud", "steps"}),
    ],
)
def test_a_part_prints_tables_and_writes_its_results(
    part: str, more: list[str], found: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if part in ("mount", "api") and (why := why_not()):
        pytest.skip(why)
    module = importlib.import_module(f"bench.{part}")
    if part == "ingest":
        monkeypatch.setattr(module, "QUICK_FILES", 50)
        monkeypatch.setattr(module, "QUICK_BYTES", 10_000_000)
        monkeypatch.setattr(module, "TEN_GIGABYTES", 20_000_000)
    results = json.loads(module.main(["--quick", *more]).read_text())
    assert found <= results.keys()
    assert results["machine"].keys() == MACHINE
    assert all({"median", "min", "max", "values"} <= one.keys() for one in quantities(results))
    assert "(" in capsys.readouterr().out


def test_writers_are_counted_while_all_are_at_work() -> None:
    steady = [Ended(float(second), 1.0) for second in range(10)]
    tail = Ended(10.0, 90.0)
    assert _speed(1, [[*steady, tail]]) == 1.0
    # Two processes: one of them has nothing left to begin after two thirds.
    assert _speed(2, [steady[:7], steady]) == pytest.approx(2.0)
    assert _speed(1, [[Ended(0.0, 1.0), Ended(1.0, 1.0, "refused"), Ended(2.0, 1.0), Ended(3.0, 1.0)]]) == 0.5
    assert _speed(2, [[Ended(0.0, 2.0)], [Ended(2.0, 2.0)]]) == 0.5, "nobody publishes twice: the whole time counts"


def quantities(results: Any) -> list[dict[str, Any]]:
    """Everything with a unit, wherever it is."""
    if isinstance(results, dict):
        return [results] if "unit" in results else quantities(list(results.values()))
    return [one for value in results for one in quantities(value)] if isinstance(results, list) else []


def test_small_files_are_chosen_alike_each_time_and_may_come_again(tmp_path: Path) -> None:
    few = len(data._choose(10_000))
    made = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made.append(data.small_archive(tmp_path / name, few + 5).read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "a" / f"tree-{few + 5}.tar") as archive:
        assert sum(member.isfile() for member in archive) == few + 5


def test_large_files_have_the_size_that_was_asked_for_and_nothing_twice(tmp_path: Path) -> None:
    directory = data.large_files(tmp_path, 25_000_000)
    files = {file.name: file.read_bytes() for file in directory.iterdir()}
    assert sum(map(len, files.values())) == 25_000_000
    assert sorted(files) == [*(f"code-{n}" for n in range(6)), *("random-0", "random-1", "text-0", "text-1")]
    assert len(set(files.values())) == len(files)


def test_a_command_is_measured_with_what_it_starts(tmp_path: Path) -> None:
    hold = "import time; held = bytes(range(256)) * 400_000; time.sleep(0.3)"
    used = measuring.run(["sh", "-c", f'{sys.executable} -c "{hold}"; true'], watched=True)
    assert 100_000_000 < used.peak <= used.marks < 200_000_000
    assert used.wall > 0.3


def test_values_keep_their_spread() -> None:
    values = Values("s", (2.0, 1.0, 4.0))
    assert values.per(8, "files/s").to_json() == {
        "unit": "files/s",
        "median": 4.0,
        "min": 2.0,
        "max": 8.0,
        "values": (4.0, 8.0, 2.0),
    }
