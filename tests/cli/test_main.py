from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stratus import cli
from stratus._version import __version__
from stratus.cli import list as list_repositories
from stratus.cli.main import VERBS
from tests.cli.conftest import Run

HEAVY = ("numpy", "botocore", "obstore", "cryptography", "msgspec", "urllib3", "sqlite3", "tempfile")


def test_the_version_is_printed(stratus: Run) -> None:
    assert stratus("--version").out == f"stratus {__version__}\n"


def test_without_a_verb_the_usage_is_wrong(stratus: Run) -> None:
    result = stratus(code=2)
    assert result.out == ""
    assert "stratus --help" in result.err


def test_a_verb_that_is_mistyped_is_guessed(stratus: Run) -> None:
    assert stratus("pubish", code=2).err.splitlines() == [
        "stratus: there is no verb 'pubish'",
        "hint: did you mean `stratus publish`?",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(stratus: Run, verb: str) -> None:
    shown = stratus(verb, "--help").out
    assert f"example:\n  stratus {verb}" in shown


def test_every_verb_of_the_help_is_a_module_of_its_name() -> None:
    modules = {
        module.stem for module in Path(cli.__file__).parent.glob("*.py") if "def add_parser" in module.read_text()
    }
    assert modules == set(VERBS)


def test_an_error_is_one_line_and_one_hint(stratus: Run) -> None:
    result = stratus("ls", "missing.example.org", code=1)
    assert result.out == ""
    assert [line.partition(":")[0] for line in result.err.splitlines()] == ["stratus", "hint"]


def test_with_json_the_error_is_an_object_on_standard_output(stratus: Run) -> None:
    result = stratus("ls", "missing.example.org", "--json", code=1)
    assert result.err == ""
    assert result.json["code"] == "no_such_repository"
    assert result.json["message"]
    assert result.json["hint"]


def test_wrong_usage_has_exit_code_2_and_json_too(stratus: Run) -> None:
    assert "the following arguments are required" in stratus("ls", code=2).err
    assert stratus("ls", "--json", "--what", "x", code=2).json["code"] == "usage"


def _raising(error: BaseException) -> Callable[..., int]:
    def run(_: object) -> int:
        raise error

    return run


def test_an_interrupt_has_exit_code_130(stratus: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_repositories, "run", _raising(KeyboardInterrupt()))
    stratus("list", code=130)


def test_nobody_hears_of_a_reader_who_has_seen_enough() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "stratus", "publish", "--help"], stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr == b""


def test_help_and_version_load_nothing_heavy() -> None:
    program = "import sys; from stratus.cli.main import main; main(['--version']); main(['publish', '--help'])\n"
    program += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_process_ends_at_once_but_not_before_its_output_and_threads_are_done() -> None:
    program = """
import atexit, sys, threading, time
from stratus.cli import main
atexit.register(print, "taken apart")
if sys.argv.pop() == "thread":
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.exit(main.main())
"""

    def ended(how: str) -> list[str]:
        command = [sys.executable, "-c", program, "--version", how]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert ended("alone") == [f"stratus {__version__}"]
    assert ended("thread") == [f"stratus {__version__}", "thread", "taken apart"]
