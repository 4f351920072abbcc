"""The real command line in a process of its own, and what must be true of a repository whatever happened to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from stratus.stores.contract import Store
from stratus.upkeep.check import check
from tests.repositories import FQRN, content, keys, put, reader

BEFORE: dict[str, bytes | None] = {"kept": b"kept", "d": None, "d/old": b"old"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Configuration, keys and a source of a user.

    Attributes:
        environment: of all commands.
        content: what publishing the source adds.
    """

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, home: Path, store: Store, **environment: str) -> Machine:
        """Knows the repository FQRN in the store."""
        keys().save(home / "keys")
        url = store.url
        (home / "config.toml").write_text(f'[repositories."{FQRN}"]\nstore = "{url}"\nkeys = "{home}/keys"\n')
        own = {"STRATUS_CONFIG": str(home / "config.toml"), "STRATUS_CACHE": str(home / "cache"), "HOME": str(home)}
        machine = cls(home, {**os.environ, **own, **environment})
        for path, data in machine.content.items():
            file = machine.source / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                file.mkdir(exist_ok=True)
            else:
                file.write_bytes(data)
        return machine

    @property
    def source(self) -> Path:
        return self.home / "source"

    @property
    def content(self) -> dict[str, bytes | None]:
        files = {f"d/sub/f{number}": b"content of %d" % number for number in range(6)}
        return {"kept": b"changed", "d": None, "d/sub": None, "d/sub/.cvmfscatalog": b"", **files}

    @property
    def after(self) -> dict[str, bytes | None]:
        """What a reader sees once the source is published over BEFORE."""
        return BEFORE | self.content

    def run(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        with self.start(*words, environment=environment) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out.decode(), err.decode())

    def start(
        self, *words: str | Path, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "stratus", *map(str, words)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment, **(environment or {})},
        )

    def publish(self, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("publish", FQRN, self.source, "--json", environment=environment)


def assert_one_line_and_hint(done: subprocess.CompletedProcess[str], code: int) -> None:
    """The error as the contract wants it, on standard error."""
    assert done.returncode == code, done
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["stratus", "hint"], done


def problems(store: Store) -> set[str]:
    """The codes of all that a check finds, reading every object."""
    return {found.code for found in check(store, FQRN, [keys().public_key], now=datetime.now(UTC), data=True)}


def assert_whole(store: Store, after: dict[str, bytes | None], before: dict[str, bytes | None] = BEFORE) -> bool:
    """The old or the new revision can be read whole, nothing worse than a stale reflog is found; whether it is new."""
    seen = content(store)
    assert seen in (before, after)
    assert problems(store) <= {"stale_reflog"}
    tops = {stat.key.partition("/")[0] for stat in store.list("")}
    assert tops <= {FQRN, ".stratus", "info"}
    return seen == after


def assert_heals(store: Store, *submitted: Mapping[str, bytes | None]) -> None:
    """The next publish succeeds, and then nothing is wrong any more.

    What was submitted before something died may be published first, and makes a revision of its own.
    """
    seen, revision = content(store), reader(store).manifest.revision
    later = put(store, {"later": b"later"}).revision
    states = [{**state, "later": b"later"} for state in (seen, *submitted)]
    assert content(store) in states
    assert later == revision + 1 or (later == revision + 2 and content(store) in states[1:])
    assert problems(store) == set()
