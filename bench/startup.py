"""How long a command takes that does next to nothing: what a user waits for at every command.

Whole processes, on a store in a directory. ``--imports`` shows what the modules that are loaded cost, by
``python -X importtime``, which itself takes some time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.measuring import STRATUS, Values, cpus, machine, print_table, run, walls, write_results

FQRN = "bench.example.org"
ROUNDS = 21
QUICK_ROUNDS = 2
_COSTLY = 2000  # µs with all that a module loads
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)")


@dataclass(frozen=True, slots=True)
class Start:
    """Milliseconds of one command; ``goal`` for the wall time, on a machine with two idle cores."""

    name: str
    wall: Values
    cpu: Values
    goal: int | None


def measure(
    name: str, command: Sequence[str], rounds: int, goal: int | None, prepare: Callable[[int], object]
) -> Start:
    """The first run finds cold caches and does not count."""
    runs = []
    for number in range(rounds + 1):
        prepare(number)
        runs.append(run(command))
    wall, cpu = walls(runs[1:]), cpus(runs[1:])
    return Start(name, wall.times(1000, "ms"), cpu.times(1000, "ms"), goal)


def costly_imports(command: Sequence[str]) -> list[tuple[str, float, float]]:
    """Modules with the milliseconds that they took, with what they load and alone; indented below who loads them."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], check=True, capture_output=True, text=True)
    found = [match for line in done.stderr.splitlines() if (match := _IMPORT.match(line))]
    return [
        (f"{' ' * len(one[3])}{one[4]}", int(one[2]) / 1000, int(one[1]) / 1000)
        for one in reversed(found)
        if int(one[2]) >= _COSTLY
    ]


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    parser.add_argument("--imports", action="store_true", help="also what the modules cost")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where everything is written")
    arguments = parser.parse_args(words)
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    of = machine()
    with tempfile.TemporaryDirectory(dir=data.directory(arguments.data)) as directory:
        store, keys, source = (Path(directory) / name for name in ("store", "keys", "source"))
        source.mkdir()
        environment = {"STRATUS_CONFIG": f"{directory}/config.toml", "STRATUS_CACHE": f"{directory}/cache"}
        run([STRATUS, "create", FQRN, str(store), "--keys", str(keys)], environment)
        place = str(store / FQRN)
        listing = [STRATUS, "ls", place, "--public-key", str(keys / f"{FQRN}.pub")]
        publishing = [STRATUS, "publish", "--json", "--keys", str(keys), place, str(source)]

        def nothing(_: int) -> None:
            pass

        def new_file(number: int) -> None:
            (source / "file").write_text(f"{number}\n")

        starts = [
            measure("python -c pass", [sys.executable, "-c", "pass"], rounds, None, nothing),
            measure("stratus --version", [STRATUS, "--version"], rounds, 100, nothing),
            measure("stratus ls", listing, rounds, 200, nothing),
            measure("stratus publish, one file", publishing, rounds, 400, new_file),
        ]
        print_table(
            "start-up, ms: median (least-most)",
            ("", "wall", "CPU", "goal, wall"),
            [(one.name, one.wall, one.cpu, one.goal or "") for one in starts],
        )
        if arguments.imports:
            for command in (listing, publishing):
                cells = [(name, f"{all_:.1f}", f"{own:.1f}") for name, all_, own in costly_imports(command)]
                print_table(f"modules of stratus {command[1]}, ms", ("", "with what it loads", "alone"), cells)
    return write_results("startup", of, {"rounds": rounds, "starts": starts})


if __name__ == "__main__":
    main()
