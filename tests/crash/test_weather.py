"""Publishing to a real S3 server over a bad network."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex

import pytest

from stratus.errors import Busy, StoreError, StratusError, Untrusted
from stratus.stores import retries
from stratus.stores.s3 import S3Store
from stratus.stores.s3_place import FixedKeys, Place
from stratus.testing.s3_server import LocalS3
from tests.crash.processes import BEFORE, assert_heals, assert_whole
from tests.crash.weather import Forecast, Passing, Proxy, Weather, proxy_before
from tests.repositories import content, new_repository, put, reader

NEWER: dict[str, bytes | None] = {"kept": b"changed", **{f"d/f{number}": b"%d" % number for number in range(8)}}
AFTER = BEFORE | NEWER


@dataclass(frozen=True, slots=True)
class Site:
    """A repository on a server, as it is (``near``) and through a proxy, by a new process each time."""

    proxy: Proxy
    near: S3Store
    bucket: str
    server: LocalS3

    def far(self) -> S3Store:
        base = f"{self.proxy.endpoint}/{self.bucket}"
        keys = FixedKeys(self.server.access_key, self.server.secret_key)
        return S3Store.at(Place(f"s3://{self.bucket}", self.bucket, "", base, "us-east-1", keys))

    def publish_in(self, forecast: Forecast) -> None:
        self.proxy.restart(forecast)
        put(self.far(), NEWER)


@pytest.fixture
def site(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.001)
    bucket = f"weather-{token_hex(6)}"  # the policy of one bucket has no room for so many repositories
    s3_server.create_bucket(bucket)
    near = s3_server.store(bucket)
    new_repository(near)
    put(near, BEFORE)
    with proxy_before(s3_server.endpoint) as proxy:
        yield Site(proxy, near, bucket, s3_server)


def _storm(seed: int, *kinds: Weather) -> Forecast:
    """A third of the requests meet it."""
    dice = random.Random(seed)
    return lambda _: dice.choice(kinds) if dice.random() < 1 / 3 else Weather.FAIR


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_503_and_lost_answers_is_survived_or_ends_cleanly(site: Site, seed: int) -> None:
    before = reader(site.near).manifest.revision
    try:
        site.publish_in(_storm(seed, Weather.BUSY, Weather.LOST))
    except (StoreError, Busy):
        landed = assert_whole(site.near, AFTER)
    else:
        landed = assert_whole(site.near, AFTER)
        assert landed
    assert reader(site.near).manifest.revision == before + landed
    assert_heals(site.near, AFTER)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3, 40))
def test_many_storms(site: Site, seed: int) -> None:
    test_a_storm_of_503_and_lost_answers_is_survived_or_ends_cleanly(site, seed)


def _count(site: Site) -> list[Passing]:
    site.proxy.restart(lambda _: Weather.FAIR)
    put(site.far(), {"probe": b"probe"})
    return list(site.proxy.passed)


def test_a_conditional_write_whose_answer_is_lost_is_settled_by_looking(site: Site) -> None:
    """Pointers one after the other, as they are few; objects all at once."""
    for lost in (r"/\.cvmfsreflog$", r"/\.cvmfspublished$", r"/receipts/", r"/data/"):
        met: set[str] = set()

        def forecast(passing: Passing, lost: str = lost, met: set[str] = met) -> Weather:
            if not passing.is_conditional or not re.search(lost, passing.path) or passing.path in met:
                return Weather.FAIR
            met.add(passing.path)
            return Weather.LOST

        revision = reader(site.near).manifest.revision
        content_before = content(site.near)
        site.proxy.restart(forecast)
        put(site.far(), {f"after{lost.encode().hex()}": b"new" + lost.encode()})
        assert met
        assert reader(site.near).manifest.revision == revision + 1
        assert content(site.near).items() >= content_before.items()


@pytest.mark.parametrize("damage", [Weather.CUT, Weather.FLIPPED])
def test_what_was_damaged_on_the_way_is_never_published_from(site: Site, damage: Weather) -> None:
    """Every object, and every pointer that is signed or hashed, is read damaged for as long as it is asked for."""
    paths = {passing.path for passing in _count(site) if passing.method == "GET"}
    wanted = sorted(path for path in paths if re.search(r"/data/|\.cvmfspublished$", path))
    assert len(wanted) >= 3
    before = content(site.near)
    for path in wanted:
        revision = reader(site.near).manifest
        current = _renamed(site, path)

        def forecast(passing: Passing, current: str = current) -> Weather:
            return damage if passing.path == current and passing.method == "GET" else Weather.FAIR

        with pytest.raises(StratusError) as caught:
            site.publish_in(forecast)
        assert isinstance(caught.value, Untrusted) or damage is Weather.CUT
        assert reader(site.near).manifest == revision
    assert_whole(site.near, AFTER, before)


def _renamed(site: Site, path: str) -> str:
    """The object of today that has the place of the one that was read then."""
    manifest = reader(site.near).manifest
    suffix = path[-1]
    named = {"C": manifest.root, "H": manifest.history}.get(suffix)
    if named is None or "/data/" not in path:
        return path
    text = str(named)
    return f"{path[: path.index('/data/')]}/data/{text[:2]}/{text[2:]}{suffix}"
