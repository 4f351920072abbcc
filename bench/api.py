"""A publish through the API: one small file, from the command to where a mounted client shows it.

Server, client and command are processes of this machine, the store is a directory; the client reads over HTTP and hears
of revisions from the API. *command* is ``stratus publish``, with all that a command takes to start; *writer* is a
program that is running already. The first of each finds cold caches and does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.measuring import STRATUS, Values, descendants, machine, print_table, run, write_results
from stratus.formats.manifest import Manifest
from stratus.ingest.sources import open_source
from stratus.stores.http import HttpStore
from stratus.trust.credentials import open_key
from stratus.writers.api import ApiWriter
from stratus.writers.api_client import ApiClient
from stratus.writers.publish import Options, publish

FQRN = "bench.example.org"
ROUNDS = 20
QUICK_ROUNDS = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK = 0.001  # seconds between two looks at the mount
_LONGEST = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Case:
    """Milliseconds: until the file is seen, until the publish has its receipt, and CPU of each side."""

    name: str
    visible: Values
    wall: Values
    cpu: Values
    server: Values
    client: Values


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is, and the processes."""

    top: Path
    url: str
    server: int
    client: int

    @property
    def mountpoint(self) -> Path:
        return self.top / "mnt"


@contextlib.contextmanager
def place(top: Path) -> Iterator[Place]:
    """A repository, its server, and a client that has mounted it."""
    environment = {"STRATUS_CONFIG": str(top / "owner.toml"), "STRATUS_CACHE": str(top / "cache")}
    keys, mountpoint = top / "keys", top / "mnt"
    mountpoint.mkdir()
    run([STRATUS, "create", FQRN, str(top / "store"), "--keys", str(keys)], environment)
    run([STRATUS, "key", "create", FQRN, "--writer", "bench", "--out", str(top / "writer.pem")], environment)
    with _process([STRATUS, "serve", "--functions", "--port", "0"], environment) as server:
        assert server.stdout is not None
        said = next(line for line in server.stdout if line.startswith("serving at "))
        url = said.split()[-1].removesuffix("/cvmfs")
        read = f"{url}/cvmfs/{FQRN}"
        flags = ["--public-key", str(keys / f"{FQRN}.pub"), "--notify", url, "--foreground"]
        with _process([STRATUS, "mount", read, str(mountpoint), *flags], environment) as client:
            try:
                _until(lambda: os.path.ismount(mountpoint))
                yield Place(top, url, server.pid, client.pid)
            finally:
                run([STRATUS, "umount", str(mountpoint)], environment)


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(_LONGEST)


def _until(condition: Callable[[], bool]) -> float:
    """When it is so."""
    end = time.perf_counter() + _LONGEST
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError("the client shows nothing")
        time.sleep(_LOOK)
    return time.perf_counter()


def _cpu(pid: int) -> float:
    """Seconds of a process and all below it."""
    ticks = 0
    for one in descendants(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
    return ticks / _TICKS


def measure(name: str, where: Place, rounds: int, work: Callable[[Path], float]) -> Case:
    """``work`` publishes what is in a directory into ``/d`` and gives the CPU seconds that it took."""
    found = []
    for number in range(rounds + 1):
        source = where.top / f"{name}-{number}"
        source.mkdir()
        file = f"{name}-{number}.txt"
        (source / file).write_text(f"{number}\n")
        seen: list[float] = []
        shown = where.mountpoint / "d" / file
        watch = threading.Thread(target=lambda shown=shown, seen=seen: seen.append(_until(shown.exists)))
        before = _cpu(where.server), _cpu(where.client)
        watch.start()
        begun = time.perf_counter()
        cpu = work(source)
        ended = time.perf_counter()
        watch.join()
        time.sleep(0.3)  # what follows a publish is not part of the next one
        after = _cpu(where.server), _cpu(where.client)
        found.append((seen[0] - begun, ended - begun, cpu, after[0] - before[0], after[1] - before[1]))
    columns = (tuple(1000 * value for value in column) for column in zip(*found[1:], strict=True))
    return Case(name, *(Values("ms", column) for column in columns))


def by_command(where: Place) -> Callable[[Path], float]:
    """``stratus publish``, with the configuration of a writer."""
    config = where.top / "writer.toml"
    config.write_text(f'[repositories."{FQRN}"]\napi = "{where.url}"\nwriter_key = "{where.top / "writer.pem"}"\n')
    environment = {"STRATUS_CONFIG": str(config), "STRATUS_CACHE": str(where.top / "writer-cache")}
    return lambda source: run([STRATUS, "publish", "--quiet", f"{FQRN}:/d", str(source)], environment).cpu


def by_writer(where: Place) -> Callable[[Path], float]:
    """A writer in this process."""
    client = ApiClient(where.url, FQRN, open_key(where.top / "writer.pem"))
    writer = ApiWriter(HttpStore(f"{where.url}/cvmfs"), client, Manifest.parse)

    def work(source: Path) -> float:
        begun = time.process_time()
        publish(writer, FQRN, b"/d", [open_source(str(source))], writer.name, Options(workers=0))
        return time.process_time() - begun

    return work


def main(words: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works; the numbers mean nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where everything is written")
    arguments = parser.parse_args(words)
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    of = machine()
    with tempfile.TemporaryDirectory(dir=data.directory(arguments.data)) as top, place(Path(top)) as where:
        cases = [
            measure("command", where, rounds, by_command(where)),
            measure("writer", where, rounds, by_writer(where)),
        ]
    print_table(
        "one file through the API, ms: median (least-most)",
        ("", "visible", "receipt", "CPU", "CPU server", "CPU client"),
        [(case.name, case.visible, case.wall, case.cpu, case.server, case.client) for case in cases],
    )
    return write_results("api", of, {"rounds": rounds, "cases": cases})


if __name__ == "__main__":
    main()
