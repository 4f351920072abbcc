"""What a reader does about copies that are damaged, whatever is on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.stores.http import HttpStore
from stratus.testing.store_kit import object_key
from tests.stores.serving import Script, serving

KEY = object_key(b"body")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def store(script: Script) -> Iterator[HttpStore]:
    with serving(script.handler()) as url:
        yield HttpStore(url)


def test_a_damaged_object_is_asked_for_once_more(store: HttpStore, script: Script) -> None:
    script.say((200, {}, b"damaged"), (200, {}, b"body"))
    assert store.get(KEY).data == b"body"
    assert script.asked == [f"GET /{KEY}"] * 2


def test_what_is_damaged_twice_is_for_the_reader_to_judge(store: HttpStore, script: Script) -> None:
    script.say((200, {}, b"damaged"))
    assert store.get(KEY).data == b"damaged"
    assert script.asked == [f"GET /{KEY}"] * 2


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("suffix", list(Suffix))
def test_names_of_all_kinds_are_understood(
    store: HttpStore, script: Script, algorithm: Algorithm, suffix: Suffix
) -> None:
    script.say((200, {}, b"body"))
    store.get(ObjectId(algorithm.digest(b"body"), suffix).key)
    assert len(script.asked) == 1


def test_parts_and_pointers_are_not_judged(store: HttpStore, script: Script) -> None:
    script.say((200, {}, b"anything"))
    assert store.get("a/.cvmfspublished").data == b"anything"
    assert store.get(KEY, (0, 3)).data == b"any"
    assert len(script.asked) == 2
