"""What the cases work on: a user's machine with a repository, the command line, and servers that misbehave."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from stratus.cli.main import main
from stratus.repository.layout import Layout
from stratus.stores.directory import DirectoryStore
from stratus.testing.s3_server import LocalS3
from tests.repositories import FQRN, keys
from tests.stores.serving import Answer, Script, serving

LAYOUT = Layout(FQRN)
Words = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Case:
    """Something that goes wrong.

    Attributes:
        happened: for the table.
        code: the exit code.
        prepare: makes it so; gives the command line, whose first words are shown.
    """

    happened: str
    code: int
    prepare: Callable[[Desk], Words]


class Desk:
    """One user: everything is below ``home``; ``store`` is a directory with the repository FQRN."""

    def __init__(self, home: Path, template: Path, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self.home = home
        self._request = request
        self._stack = stack
        self.monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        shutil.copytree(template, home / "store")
        keys().save(home / "keys")
        self.configure(f"{home}/store")

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.home / "store")

    @property
    def public_key(self) -> Words:
        return "--public-key", self.home / "keys" / f"{FQRN}.pub"

    @property
    def keys(self) -> Words:
        return "--keys", self.home / "keys"

    def configure(self, store: str) -> None:
        text = f'[repositories."{FQRN}"]\nstore = "{store}"\nkeys = "{self.home}/keys"\n'
        (self.home / "config.toml").write_text(text)

    def file(self, name: str, data: bytes) -> Path:
        """A file in the working directory, by its relative name."""
        (self.home / name).write_bytes(data)
        return Path(name)

    def damage(self, key: str, change: Callable[[bytes], bytes]) -> None:
        self.store.put(key, change(self.store.get(key).data))

    def lose(self, key: str) -> None:
        assert self.store.delete([key]) == {key}

    def serve(self, *answers: Answer) -> str:
        """The URL of a server that answers these, the last one for ever."""
        script = Script()
        script.say(*answers)
        return self._stack.enter_context(serving(script.handler()))

    @cached_property
    def s3(self) -> LocalS3:
        """The environment is that of this server."""
        server: LocalS3 = self._request.getfixturevalue("s3_server")
        for name, value in server.environment().items():
            self.monkeypatch.setenv(name, value)
        return server

    def run(self, words: Words) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        capture: pytest.CaptureFixture[str] = self._request.getfixturevalue("capsys")
        capture.readouterr()
        code = main([str(word) for word in words])
        captured = capture.readouterr()
        return code, captured.out, captured.err

    def normal(self, text: str) -> str:
        """The text as it is on any machine at any time."""
        text = text.replace(str(self.home), "/home/me")
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8333", text)
        text = re.sub(r"[0-9a-f]{2}/[0-9a-f]{38}(?![0-9a-f])", "ab/cdef…", text)
        text = re.sub(r"\b[0-9a-f]{40}(?![0-9a-f])", "abcdef…", text)
        text = re.sub(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "2026-11-25 12:00:00", text)
        text = text.replace("Temporary failure in name resolution", "Name or service not known")
        text = re.sub(r"probe-[0-9a-f]{20}", "probe-abcd", text)
        text = re.sub(r"ran out at [^U]*UTC", "ran out at 2026-11-15 12:00 UTC", text)
        text = re.sub(r"CRC check failed 0x[0-9a-f]+ != 0x[0-9a-f]+", "CRC check failed", text)
        return re.sub(r"its \d+ bytes", "its 123 bytes", text)
