"""The command line of a stranger with a key, by a container and by Lambda; uploads go into the bucket itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from stratus.trust.writer_keys import WriterKey
from tests.repositories import FQRN, content, keys, new_repository, problems
from tests.runtimes.containers import World
from tests.runtimes.emulator import Queue, Slot, function_url, playing, slot

LAYOUT = Layout(FQRN)


@pytest.fixture
def store(s3_server: LocalS3) -> S3Store:
    """A bucket with a repository."""
    name = f"path-{token_hex(6)}"
    s3_server.create_bucket(name)
    store = s3_server.store(name)
    new_repository(store)
    return store


def publish(store: S3Store, api: str, directory: Path) -> None:
    """By somebody who has a key and the URLs."""
    key = WriterKey.generate()
    flows.run(writer_keys.create(LAYOUT, key.public_key, "alice", (b"/sw",)), store)
    key.save(directory / "key.pem")
    (directory / "public.pub").write_bytes(keys().public_key)
    (directory / "tree" / "bin").mkdir(parents=True)
    (directory / "tree" / "bin" / "tool").write_text("#!/bin/sh\n")
    (directory / "tree" / "big").write_bytes(os.urandom(200_000))
    (directory / "config.toml").write_text(
        f'[repositories."{FQRN}"]\nstore = "{store.place.base}"\npublic_key = "{directory / "public.pub"}"\n'
        f'api = "{api}"\nwriter_key = "{directory / "key.pem"}"\n'
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STRATUS_"))}
    kept |= {"STRATUS_CONFIG": str(directory / "config.toml"), "STRATUS_CACHE": str(directory / "cache")}
    line = [sys.executable, "-m", "stratus", "publish", f"{FQRN}:/sw", str(directory / "tree")]
    done = subprocess.run(line, env=kept, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = content(store)
    assert found["sw/bin/tool"] == b"#!/bin/sh\n"
    assert found["sw/big"] == (directory / "tree" / "big").read_bytes()
    assert problems(store, data=True) == []


def test_by_a_container(store: S3Store, s3_server: LocalS3, tmp_path: Path) -> None:
    world = World.at(store, f"s3://{store.place.bucket}", s3_server.environment(), tmp_path / "secrets")
    with world.container(STRATUS_URL="") as container:
        publish(store, container.url, tmp_path)
        line = [sys.executable, "-m", "stratus", "deploy", "http", FQRN, "--check", "--url", container.url]
        owner = {**os.environ, **s3_server.environment(), "STRATUS_CONFIG": str(tmp_path / "none.toml")}
        done = subprocess.run(
            [*line, "--store", f"s3://{store.place.bucket}", "--wait", "60"],
            env=owner,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, "BAD" in done.stdout) == (0, False), done.stdout + done.stderr


def test_by_lambda(store: S3Store, s3_server: LocalS3, tmp_path: Path) -> None:
    keys().save(tmp_path / "secrets")
    with contextlib.ExitStack() as stack:
        queue = stack.enter_context(playing())
        environment = {
            **s3_server.environment(),
            "STRATUS_STORE": f"s3://{store.place.bucket}",
            "STRATUS_REPOSITORIES": FQRN,
            "STRATUS_SECRETS": f"file://{tmp_path / 'secrets'}",
            "STRATUS_QUEUES": " ".join(f"{kind}={queue.url}" for kind in ("commit", "submit", "notify")),
        }
        probe = stack.enter_context(slot("stratus.runtimes.aws.events.handler", environment))
        stack.enter_context(delivering(queue, probe))
        api = stack.enter_context(slot("stratus.runtimes.aws.api.handler", environment))
        publish(store, stack.enter_context(function_url(api)), tmp_path)


@contextlib.contextmanager
def delivering(queue: Queue, to: Slot) -> Iterator[None]:
    """Delivers whatever is sent to a queue."""
    over = threading.Event()

    def deliver() -> None:
        while not over.wait(0.1):
            if queue.messages:
                queue.deliver(to)

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
