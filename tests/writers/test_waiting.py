"""Writers who wait for the same lease, through the API of a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stratus.errors import LeaseHeld
from stratus.formats.receipt import Receipt
from stratus.stores.directory import DirectoryStore
from stratus.writers import api_client
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish
from tests.repositories import FQRN, Files, content, keys, reader
from tests.writers.serving import LAYOUT, Office, serving


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(api_client, "_LONGEST_LEASE_PAUSE", 0.2)
    with serving(tmp_path) as office:
        yield office


def notes(office: Office) -> int:
    return len(list(office.store.list(LAYOUT.waiting(""))))


def until_they_wait(office: Office, count: int) -> None:
    end = time.monotonic() + 20
    while notes(office) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_they_are_served_in_the_order_in_which_they_came(office: Office) -> None:
    """Whatever the road: one of them has the repository's keys."""
    names = ["bob", "owner", "carol"]
    writers = {name: office.writer(office.key(name)) for name in ("bob", "carol")}
    owner = DirectWriter(DirectoryStore(office.store.path), FQRN, keys(), "owner")

    def work(name: str) -> Receipt:
        source = [Files({name: b"1"})]
        return publish(writers.get(name, owner), FQRN, b"/sw", source, name, Options(wait=60))

    with ThreadPoolExecutor(len(names)) as threads:
        with office.writer(office.key("alice")).lease(b"/sw"):
            done = []
            for number, name in enumerate(names):
                done.append(threads.submit(work, name))
                until_they_wait(office, number + 1)
                time.sleep(1.0)  # notes have whole seconds
        assert [one.result().writer for one in done] == names
    assert [entry.writer for entry in reader(office.store).log()][:3] == names[::-1]
    assert set(content(office.store)) == {"sw", *(f"sw/{name}" for name in names)}
    assert notes(office) == 0


def test_who_waited_in_vain_is_told_who_has_it_and_leaves_no_note(office: Office) -> None:
    with office.writer(office.key("alice")).lease(b"/sw"), pytest.raises(LeaseHeld) as caught:
        publish(office.writer(), FQRN, b"/sw", [Files({"a": b"1"})], "bob", Options(wait=1))
    assert caught.value.holder == "alice"
    assert notes(office) == 0
