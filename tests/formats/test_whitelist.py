from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats import signed
from stratus.formats.hashes import Algorithm
from stratus.formats.whitelist import Whitelist
from tests import stock
from tests.formats.strategies import digests, fqrns

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=0)
)
FINGERPRINT = Algorithm.SHA1.digest(b"certificate")
ISSUED = datetime(2024, 3, 15, 8, 30, tzinfo=UTC)
WHITELIST = Whitelist("a.example.org", ISSUED, ISSUED + timedelta(days=30), (FINGERPRINT,))
HEAD = b"20240315083000\nE20240414083000\nNa.example.org\n"


@given(st.builds(Whitelist, fqrns, TIMES, TIMES, st.lists(digests).map(tuple)))
def test_a_whitelist_survives_its_text(whitelist: Whitelist) -> None:
    assert Whitelist.parse(whitelist.body()) == whitelist


@pytest.mark.parametrize("name", stock.NAMES)
def test_the_text_is_that_of_the_stock_tools_to_the_byte(name: str, tmp_path: Path) -> None:
    data = stock.unpack(name, tmp_path).read(".cvmfswhitelist")
    assert Whitelist.parse(data).body() == signed.split(data).body


def test_times_are_written_in_utc_whatever_their_zone() -> None:
    zone = timezone(timedelta(hours=5))
    moved = Whitelist("a.example.org", ISSUED.astimezone(zone), WHITELIST.expires.astimezone(zone), ())
    assert moved.body() == HEAD


def test_it_runs_out_at_the_start_of_the_hour() -> None:
    assert WHITELIST.is_valid(datetime(2024, 4, 14, 7, 59, 59, tzinfo=UTC))
    assert not WHITELIST.is_valid(datetime(2024, 4, 14, 8, 0, 0, tzinfo=UTC))
    assert WHITELIST.is_valid(datetime(2024, 4, 14, 10, 59, tzinfo=timezone(timedelta(hours=3))))


def test_comments_and_lines_that_are_no_fingerprint_are_skipped() -> None:
    pairs = b":".join(b"%02X" % byte for byte in FINGERPRINT.raw)
    lines = [pairs + b" # 2024", pairs.lower() + b"#x", pairs + b"-RMD160\tx", b"# none", b"", b"\xff", pairs[:-3]]
    found = Whitelist.parse(HEAD + b"\n".join(lines) + b"\n").fingerprints
    assert found[:2] == (FINGERPRINT, FINGERPRINT)
    assert [digest.algorithm for digest in found[2:]] == [Algorithm.RIPEMD160]


def test_fingerprints_after_the_mark_are_not_read() -> None:
    assert Whitelist.parse(HEAD + b"--\n" + WHITELIST.body().splitlines()[3] + b"\n").fingerprints == ()


@pytest.mark.parametrize("line", [b"Vpkcs7", b"Wcachain", b"Vpkcs7\nWcachain"])
def test_a_whitelist_that_asks_for_more_than_is_checked_is_refused(line: bytes) -> None:
    with pytest.raises(BadFormat, match="not supported"):
        Whitelist.parse(HEAD + line + b"\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD.replace(b"E", b""),
        HEAD.replace(b"\nN", b"\n"),
        HEAD.replace(b"20240315083000\n", b""),
        HEAD.replace(b"E20240414083000", b"E202404140830000"),
        HEAD.replace(b"E20240414083000", b"E2024041408300"),
        HEAD.replace(b"E20240414083000", b"E20241414083000"),
        HEAD.replace(b"E20240414083000", b"E2024 414083000"),
        HEAD.replace(b"\n", b"\r\n"),
        b"\n".join(reversed(HEAD.splitlines())),
    ],
)
def test_the_first_three_lines_are_exact(data: bytes) -> None:
    with pytest.raises(BadFormat):
        Whitelist.parse(data)


@given(st.binary())
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with pytest.raises(BadFormat):
        Whitelist.parse(data)
