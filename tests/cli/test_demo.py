from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak


@contextmanager
def demo(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, with all that it makes in that directory."""
    environment = {**os.environ, "TMPDIR": str(directory)}
    command = [sys.executable, "-m", "stratus", "demo"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process


def left_over(directory: Path) -> list[Path]:
    """What is still there, a few seconds after the end."""
    give_up = time.monotonic() + 10
    while (there := list(directory.iterdir())) and time.monotonic() < give_up:
        time.sleep(0.1)
    mounts = Path("/proc/self/mounts").read_text()
    return [*there, *([directory] if str(directory) in mounts else [])]


def test_the_demo_shows_it_all_within_two_minutes_and_leaves_nothing(tmp_path: Path, mountpoint: Path) -> None:
    mountpoint.rmdir()
    begun = time.monotonic()
    with demo(tmp_path) as running:
        shown, _ = running.communicate()
    assert running.returncode == 0
    assert time.monotonic() - begun < 120
    assert "release 1; numpy" in shown
    assert "release 2; numpy" in shown
    assert "demo.example.org: 0 errors" in shown
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(tmp_path: Path, mountpoint: Path, number: signal.Signals) -> None:
    mountpoint.rmdir()
    with demo(tmp_path) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("release 1; numpy"):  # it is mounted
                running.send_signal(number)
                break
        running.communicate()
    assert running.returncode == 130
    assert left_over(tmp_path) == []
