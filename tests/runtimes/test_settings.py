from __future__ import annotations

import pytest

from stratus.errors import BadName, UsageError
from stratus.runtimes.settings import Settings, from_environment

NEEDED = {
    "STRATUS_STORE": "s3://software",
    "STRATUS_REPOSITORIES": "a.example.org, b.example.org c.example.org",
    "STRATUS_SECRETS": "file:///secrets",
}


def test_what_is_needed_is_enough() -> None:
    names = ("a.example.org", "b.example.org", "c.example.org")
    assert from_environment(NEEDED) == Settings("s3://software", names, "file:///secrets")


def test_all_of_it_comes_from_the_environment() -> None:
    more = {
        "STRATUS_URL": "https://publish.example.org/",
        "STRATUS_HOST": "127.0.0.1",
        "PORT": "9000",
        "STRATUS_WORKERS": "3",
        "STRATUS_TEND_EVERY": "0",
        "STRATUS_EVENTS_TOKEN": "only-for-us",
        "K_SINK": "http://broker/",
        "STRATUS_QUEUES": "commit=https://sqs/1/c submit=https://sqs/1/s",
    }
    found = from_environment(NEEDED | more)
    assert (found.url, found.host, found.port, found.workers) == ("https://publish.example.org", "127.0.0.1", 9000, 3)
    assert (found.tend_every, found.trust, found.token, found.sink) == (0, "token", "only-for-us", "http://broker")
    assert found.queues == {"commit": "https://sqs/1/c", "submit": "https://sqs/1/s"}
    assert "only-for-us" not in repr(found)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        from_environment({**NEEDED, name: " "})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRATUS_URL", "publish.example.org"),
        ("STRATUS_URL", "https://example.org/publish"),
        ("PORT", "http"),
        ("STRATUS_TEND_EVERY", "-1"),
        ("STRATUS_EVENTS", "all"),
        ("STRATUS_EVENTS_URL", "ftp://broker"),
        ("STRATUS_QUEUES", "https://sqs/1/c"),
    ],
)
def test_what_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        from_environment({**NEEDED, name: value})


def test_events_are_believed_for_one_reason_only() -> None:
    with pytest.raises(UsageError, match="both"):
        from_environment({**NEEDED, "STRATUS_EVENTS": "network", "STRATUS_EVENTS_TOKEN": "secret"})


def test_a_repository_has_a_proper_name() -> None:
    with pytest.raises(BadName):
        from_environment({**NEEDED, "STRATUS_REPOSITORIES": "../etc"})
