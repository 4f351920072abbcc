"""Readers behind nginx and Squid, configured as in the manual, while a bucket is published to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import pytest

from stratus.errors import BadHash, NotFound
from stratus.formats.entries import Kind
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.records import Settings
from stratus.repository.layout import Layout
from stratus.stores.contract import OBJECT_HEADERS, POINTER_HEADERS
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from stratus.testing.store_kit import object_key
from stratus.writers.publish import Options
from tests.proxies.origin import Origin, origin_of
from tests.proxies.programs import Cache, Start, nginx, scratch, squid
from tests.repositories import FQRN, content, new_repository, put, reader

LAYOUT = Layout(FQRN)
FILES: dict[str, bytes | None] = {"a": b"1" * 1000, "d/b": b"2", "d/big": bytes(range(256)) * 100}
SEEN = {**FILES, "d": None}


@pytest.fixture(scope="module")
def bucket(s3_server: LocalS3) -> str:
    name = f"cached-{token_hex(6)}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def origin(s3_server: LocalS3, bucket: str) -> Iterator[Origin]:
    with origin_of(f"{s3_server.endpoint}/{bucket}") as origin:
        yield origin


@pytest.fixture(scope="module", params=[nginx, squid])
def running(request: pytest.FixtureRequest, origin: Origin) -> Iterator[Cache]:
    start: Start = request.param
    with scratch() as directory, start(origin, directory) as cache:
        yield cache


@pytest.fixture
def cache(running: Cache) -> Cache:
    running.origin.reset()
    return running


@pytest.fixture
def store(s3_server: LocalS3, bucket: str) -> S3Store:
    """A prefix of the bucket with a repository; no cache has seen anything of it."""
    store = s3_server.store(bucket, token_hex(6))
    new_repository(store, Settings(chunk_minimum=2000, chunk_average=4000, chunk_maximum=8000))
    return store


def name(store: S3Store) -> str:
    return store.place.prefix.rstrip("/")


def root_key(store: S3Store) -> str:
    return LAYOUT.object(ObjectId(reader(store).manifest.root, Suffix.CATALOG))


def asked(cache: Cache, store: S3Store) -> dict[str, int]:
    """How often the bucket was asked for each key of the repository."""
    prefix = f"{name(store)}/{LAYOUT.public}"
    return {key.removeprefix(prefix): count for key, count in cache.origin.asked.items() if key.startswith(prefix)}


# -- what is cached --------------------------------------------------------------------------------------------------


def test_the_bucket_is_asked_once_for_everything(cache: Cache, store: S3Store) -> None:
    put(store, FILES)
    for _ in range(3):
        assert content(cache.store(name(store))) == SEEN
    counts = asked(cache, store)
    assert {".cvmfspublished", ".cvmfswhitelist"} < counts.keys()
    assert len(counts) > 7
    assert set(counts.values()) == {1}


def test_headers_and_bytes_pass_unchanged(cache: Cache, store: S3Store) -> None:
    for stat in store.list(LAYOUT.public):
        for _ in range(2):
            reply = cache.get(f"{name(store)}/{stat.key}")
            assert reply.data == store.get(stat.key).data
            expected = OBJECT_HEADERS if "/data/" in stat.key else POINTER_HEADERS
            assert reply.headers["Cache-Control"] == expected.cache_control
            assert reply.headers["Content-Type"] == expected.content_type
            assert "Content-Encoding" not in reply.headers


def test_parts_of_objects_are_right(cache: Cache, store: S3Store) -> None:
    data = bytes(range(256))
    key = object_key(data).replace("kit.example.org", FQRN)
    store.put(key, data)
    through = cache.store(name(store))
    for _ in range(2):
        assert through.get(key, (10, 20)).data == data[10:20]
        assert through.get(key).data == data


def test_many_that_want_the_same_object_make_one_request(cache: Cache, store: S3Store) -> None:
    put(store, FILES)
    key = root_key(store)
    cache.origin.delay = 0.3
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: cache.get(f"{name(store)}/{key}"), range(20)))
    assert {reply.data for reply in replies} == {store.get(key).data}
    assert set(asked(cache, store).values()) == {1}


def test_what_was_missing_is_found_as_soon_as_it_is_there(cache: Cache, store: S3Store) -> None:
    through = cache.store(name(store))
    for key in (object_key(b"late").replace("kit.example.org", FQRN), f"{FQRN}/.cvmfslate"):
        for _ in range(2):
            with pytest.raises(NotFound):
                through.get(key)
        store.put(key, b"late")
        assert through.get(key).data == b"late"


def test_what_is_private_stays_so(cache: Cache, store: S3Store) -> None:
    assert cache.get(f"{name(store)}/{LAYOUT.lock}").status == 403


# -- new revisions ---------------------------------------------------------------------------------------------------


def test_a_new_revision_is_seen_when_the_pointer_has_aged(cache: Cache, store: S3Store) -> None:
    cache.origin.pointer_age = 2
    repository = reader(cache.store(name(store)))
    put(store, FILES)
    assert repository.refresh().revision == 2
    receipt = put(store, {"new": b"3"})
    published = time.monotonic()
    while repository.refresh().revision < receipt.revision:
        assert time.monotonic() - published < 2 + 2, "the cache kept the pointer for too long"
        time.sleep(0.05)
    assert content(cache.store(name(store))) == {**SEEN, "new": b"3"}


def test_readers_see_whole_revisions_while_others_are_published(cache: Cache, store: S3Store) -> None:
    cache.origin.pointer_age = 1
    newest = 16
    give_up = time.monotonic() + 60

    def follow(_: int) -> list[int]:
        """The revisions that were seen; all of each was read."""
        repository = reader(cache.store(name(store)))
        seen = [0]
        while seen[-1] < newest and time.monotonic() < give_up:
            number = repository.refresh().revision
            if number == seen[-1]:
                time.sleep(0.02)
                continue
            seen.append(number)
            with repository.at() as revision:
                files = [revision.read(entry) for entry in revision.walk() if entry.size and entry.kind is Kind.FILE]
            assert files == [b"%d" % number] * (4 if number > 1 else 0)
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(follow, number) for number in range(3)]
        for number in range(2, newest + 1):
            body = b"%d" % number
            put(store, {"a": body, "d/b": body, "d/n/c": body, "d/n/d": body}, b"/x", Options(catalog=True))
            time.sleep(0.1)
    for followed in readers:
        seen = followed.result()
        assert seen[-1] == newest
        assert seen == sorted(seen)
        assert len(seen) > 3


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_copy_is_noticed_and_healed(cache: Cache, store: S3Store) -> None:
    put(store, FILES)
    objects = [stat.key for stat in store.list(f"{LAYOUT.public}data/")]
    for key in objects:  # on their way into the cache
        cache.origin.damaged[f"{name(store)}/{key}"] = 1
        assert cache.get(f"{name(store)}/{key}").data != store.get(key).data
    cache.origin.asked.clear()
    assert content(cache.store(name(store))) == SEEN
    healed = [key for key in objects if key.removeprefix(LAYOUT.public) in asked(cache, store)]
    assert len(healed) > 5
    for key in healed:
        assert cache.get(f"{name(store)}/{key}").data == store.get(key).data
    assert set(asked(cache, store).values()) == {1}


def test_what_is_damaged_in_the_bucket_is_not_believed(cache: Cache, store: S3Store) -> None:
    put(store, FILES)
    key = root_key(store)
    cache.origin.damaged[f"{name(store)}/{key}"] = 2
    with pytest.raises(BadHash):
        content(cache.store(name(store)))
    assert asked(cache, store)[key.removeprefix(LAYOUT.public)] == 2
