from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stratus.cli.reference import Reference
from stratus.errors import BadName

S3 = "s3://bucket/prefix/sw.example.org?endpoint=http://127.0.0.1:8333"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sw.example.org", Reference("sw.example.org")),
        ("sw.example.org:/a/b", Reference("sw.example.org", None, b"/a/b")),
        ("sw.example.org:/", Reference("sw.example.org", None, b"")),
        ("sw.example.org:/a/b/", Reference("sw.example.org", None, b"/a/b")),
        ("sw.example.org@17", Reference("sw.example.org", 17)),
        ("sw.example.org@v1.0:/a", Reference("sw.example.org", "v1.0", b"/a")),
        ("sw.example.org@nightly/x86:/a", Reference("sw.example.org", "nightly/x86", b"/a")),
        ("sw.example.org:/a:/b@c", Reference("sw.example.org", None, b"/a:/b@c")),
        ("http://h:80/cvmfs/sw.example.org", Reference("http://h:80/cvmfs/sw.example.org")),
        ("http://h:80/cvmfs/sw.example.org@v1:/a", Reference("http://h:80/cvmfs/sw.example.org", "v1", b"/a")),
        ("https://h/sw.example.org@a/b", Reference("https://h/sw.example.org", "a/b")),
        (S3, Reference(S3)),
        (f"{S3}@3:/a", Reference(S3, 3, b"/a")),
        ("s3://bucket/sw.example.org@3?region=x", Reference("s3://bucket/sw.example.org?region=x", 3)),
        ("file:///srv/a@b/sw.example.org@3", Reference("file:///srv/a@b/sw.example.org", 3)),
        ("/srv/a@b/sw.example.org:/a", Reference("/srv/a@b/sw.example.org", None, b"/a")),
        ("./sw.example.org", Reference("./sw.example.org")),
    ],
)
def test_a_reference_is_a_name_a_revision_and_a_path(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17", 17),
        ("v17", "v17"),
        ("2026", 2026),
        ("2026-11", "2026-11"),
        ("generic-2026-11-25T22:00:00Z", "generic-2026-11-25T22:00:00Z"),
        ("2026-11-25T22:00:01Z", datetime(2026, 11, 25, 22, 0, 1, tzinfo=UTC)),
        ("2026-11-25T22:00", datetime(2026, 11, 25, 22, tzinfo=UTC)),
        ("2026-11-25 22:00", datetime(2026, 11, 25, 22, tzinfo=UTC)),
        ("2026-11-25T22:00+02:00", datetime(2026, 11, 25, 20, tzinfo=UTC)),
    ],
)
def test_digits_are_a_revision_dates_a_time_and_all_else_a_tag(text: str, expected: int | str | datetime) -> None:
    found = Reference.parse(f"sw.example.org@{text}").revision
    assert found == expected
    assert type(found) is type(expected)


def test_a_date_alone_means_the_end_of_that_day() -> None:
    found = Reference.parse("sw.example.org@2026-11-25").revision
    assert isinstance(found, datetime)
    assert datetime(2026, 11, 25, 23, 59, 59, tzinfo=UTC) < found < datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "@v1", ":/a", "sw.example.org@", "sw.example.org:a", "sw.example.org@2026-13-01"])
def test_what_names_nothing_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadName) as caught:
        Reference.parse(text)
    assert caught.value.hint


def test_a_path_must_not_climb() -> None:
    with pytest.raises(BadName):
        Reference.parse("sw.example.org:/a/../b")
