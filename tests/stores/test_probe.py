from __future__ import annotations

from pathlib import Path

import pytest

from stratus.errors import BadFormat, Unsuitable
from stratus.stores.contract import ALWAYS, Absent, Condition, Exchange, Headers, Match, Store, Version
from stratus.stores.directory import DirectoryStore
from stratus.stores.memory import MemoryStore
from stratus.stores.probe import Capabilities, probe
from stratus.stores.s3 import S3Store


class _Careless(MemoryStore):
    """A store that ignores conditions of a kind, as some servers do."""

    def __init__(self, ignored: type[Condition]) -> None:
        super().__init__()
        self._ignored = ignored

    def put(self, key: str, data: object, when: Condition = ALWAYS, headers: Headers | None = None) -> Version:
        return super().put(key, data, ALWAYS if isinstance(when, self._ignored) else when, headers)  # type: ignore[arg-type]


class _Segments(MemoryStore):
    """A store whose listings take whole path segments only."""

    def list(self, prefix: str, after: str = ""):  # type: ignore[no-untyped-def]
        return (found for found in super().list(prefix, after) if found.key.startswith(f"{prefix.rstrip('/')}/"))


@pytest.mark.parametrize("prefix", ["", ".stratus/a.example.org", ".stratus/a.example.org/"])
def test_a_probe_finds_what_a_store_can_do_and_cleans_up(tmp_path: Path, prefix: str) -> None:
    stores: list[Store] = [MemoryStore(), DirectoryStore(tmp_path)]
    for store in stores:
        assert probe(store, prefix) == Capabilities(True, True, grants=False, checksums=False)
        assert list(store.list("")) == []


def test_seaweedfs_can_do_everything(s3_store: S3Store) -> None:
    seen: list[Exchange] = []
    assert probe(s3_store.observed(seen.append), ".stratus/a") == Capabilities(True, True, grants=True, checksums=True)
    assert list(s3_store.list("")) == []
    assert len(seen) < 15
    assert all(one.key.startswith(".stratus/a/probe-") for one in seen)


@pytest.mark.parametrize(("ignored", "said"), [(Absent, "If-None-Match"), (Match, "If-Match")])
def test_a_store_that_ignores_conditions_is_refused(ignored: type[Condition], said: str) -> None:
    store = _Careless(ignored)
    with pytest.raises(Unsuitable, match=said) as caught:
        probe(store, ".stratus/a")
    assert "atomic conditional writes" in caught.value.hint
    assert list(store.list("")) == []


def test_a_store_that_lists_segments_only_is_refused() -> None:
    with pytest.raises(Unsuitable, match="beginning"):
        probe(_Segments(), ".stratus/a")


def test_capabilities_are_kept_as_json() -> None:
    found = Capabilities(conditional_puts=True, byte_prefixes=True, grants=True, checksums=False)
    assert Capabilities.from_json(found.to_json()) == found
    assert Capabilities.from_json({"conditional_puts": True, "later": 1}) == Capabilities(True, False, False, False)
    with pytest.raises(BadFormat):
        Capabilities.from_json({"grants": "yes"})
