"""What is sound passes without a word, whoever wrote it and wherever it is read from."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from stratus.errors import BadName, NoSuchRepository
from stratus.formats.hashes import Algorithm
from stratus.repository.repository import Repository
from stratus.stores.directory import DirectoryStore
from stratus.stores.http import HttpStore
from stratus.stores.memory import MemoryStore
from stratus.upkeep.check import check
from stratus.upkeep.check_problems import LookedAt
from tests import stock
from tests.upkeep.faults import FQRN, NOW, build, keys, small_chunks, sound
from tests.upkeep.faults import Repository as Built


@pytest.mark.parametrize("name", stock.NAMES)
@pytest.mark.parametrize("data", [False, True])
def test_repositories_of_the_stock_tools_are_sound_at_every_tag(name: str, data: bool, tmp_path: Path) -> None:
    found = stock.unpack(name, tmp_path)
    store = DirectoryStore(found.store)
    tags = Repository(store, found.fqrn, [found.public_key], lambda: stock.CLOCK).tags()
    for which in (None, *(tag.name for tag in tags)):
        looked_at = LookedAt()
        problems = check(
            store, found.fqrn, [found.public_key], now=stock.CLOCK, data=data, which=which, looked_at=looked_at
        )
        assert list(problems) == []
        assert looked_at.rows >= 2


@pytest.mark.parametrize("algorithm", [algorithm.value for algorithm in Algorithm])
@pytest.mark.parametrize("compression", ["upstream", "none"])
def test_repositories_of_our_own_are_sound(
    algorithm: Literal["sha1", "rmd160", "shake128"], compression: Literal["upstream", "none"], tmp_path: Path
) -> None:
    built = build(DirectoryStore(tmp_path), small_chunks(hash=algorithm, compression=compression))
    assert built.problems() == []
    assert built.problems(data=True) == []
    assert built.problems(which="everything") == []


def test_it_counts_what_it_looked_at() -> None:
    built = sound()
    lightly, thoroughly = built.looked_at(), built.looked_at(data=True)
    assert (lightly.catalogs, lightly.rows) == (3, 22)
    assert lightly.objects == thoroughly.objects
    assert lightly.bytes < thoroughly.bytes


def test_every_object_is_asked_for_once_and_catalogs_are_read_once() -> None:
    built = sound()
    requests: list[tuple[str, str]] = []
    store = built.store.observed(lambda exchange: requests.append((exchange.verb, exchange.key)))
    assert Built(store).problems() == []
    assert len(requests) == len(set(requests))


def test_a_web_server_and_the_public_key_are_enough(tmp_path: Path) -> None:
    build(DirectoryStore(tmp_path), small_chunks())
    with served(tmp_path) as url:
        assert Built(HttpStore(url)).problems(data=True) == []


def test_a_revision_is_found_by_number_also_without_a_tag() -> None:
    built = sound()
    assert built.looked_at(which=2).rows == 22
    assert built.looked_at(which=1).rows == 1


@pytest.mark.parametrize("which", ["nothing", 17])
def test_a_revision_that_there_is_not_is_the_callers_mistake(which: int | str) -> None:
    with pytest.raises(BadName):
        sound().problems(which=which)


def test_a_repository_that_there_is_not_is_no_problem_of_it() -> None:
    with pytest.raises(NoSuchRepository):
        list(check(MemoryStore(), FQRN, [keys().public_key], now=NOW))


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a web server on a directory."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass
