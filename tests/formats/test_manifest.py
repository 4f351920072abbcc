from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats import signed
from stratus.formats.hashes import Algorithm
from stratus.formats.manifest import Manifest
from tests import stock
from tests.formats.strategies import digests, fqrns

NUMBERS = st.integers(0, 10**18 - 1)
MANIFESTS = st.builds(
    Manifest,
    root=digests,
    root_size=NUMBERS,
    ttl=NUMBERS,
    revision=NUMBERS,
    fqrn=fqrns,
    certificate=digests,
    timestamp=NUMBERS,
    history=st.none() | digests,
    garbage_collectable=st.booleans(),
    alternative_paths=st.booleans(),
    meta_info=st.none() | digests,
    reflog=st.none() | digests,
)
ROOT = Algorithm.SHA1.digest(b"root")
BODY = Manifest(ROOT, 1, 240, 17, "a.example.org", ROOT, 1_700_000_000).body()


@given(MANIFESTS)
def test_a_manifest_survives_its_text(manifest: Manifest) -> None:
    assert Manifest.parse(manifest.body()) == manifest


@pytest.mark.parametrize("name", stock.NAMES)
def test_the_text_is_that_of_the_stock_tools_to_the_byte(name: str, tmp_path: Path) -> None:
    data = stock.unpack(name, tmp_path).read(".cvmfspublished")
    manifest = Manifest.parse(data)
    assert manifest.body() == signed.split(data).body
    assert manifest == Manifest.parse(manifest.body())


def test_optional_keys_are_left_out() -> None:
    assert [line[:1] for line in BODY.splitlines()] == [b"C", b"B", b"R", b"D", b"S", b"G", b"A", b"N", b"X", b"T"]


def test_order_and_unknown_keys_do_not_matter_and_the_last_of_equal_keys_counts() -> None:
    lines = [*reversed(BODY.splitlines(keepends=True)), b"L\xff\n", b"Zchannel\n", b"\n", b"S18\n"]
    assert Manifest.parse(b"".join(lines)).revision == 18


def test_what_comes_after_the_mark_is_not_read() -> None:
    assert Manifest.parse(BODY + b"--\nS99\n").revision == 17


def test_only_yes_means_yes() -> None:
    assert not Manifest.parse(BODY + b"Gtrue\n").garbage_collectable
    assert Manifest.parse(BODY + b"Gyes\n").garbage_collectable


@pytest.mark.parametrize("key", [b"C", b"R", b"D", b"S", b"N", b"X", b"T"])
def test_a_key_that_clients_need_is_required(key: bytes) -> None:
    with pytest.raises(BadFormat, match=f"without {key.decode()}"):
        Manifest.parse(b"".join(line for line in BODY.splitlines(keepends=True) if line[:1] != key))


def test_the_size_of_the_root_may_be_missing() -> None:
    assert Manifest.parse(BODY.replace(b"B1\n", b"")).root_size == 0


@pytest.mark.parametrize(
    "line",
    [
        b"Cd41d8cd98f00b204e9800998ecf8427e",
        b"C" + str(ROOT).upper().encode(),
        b"X",
        b"H" + b"0" * 39,
        b"Rda39a3ee5e6b4b0d3255bfef95601890",
        b"S-1",
        b"S1 ",
        b"S 1",
        b"S1\r",
        b"S1_0",
        b"S",
        b"S" + "١".encode(),
        b"S" + b"9" * 5000,
        b"Na\xff.org",
    ],
)
def test_values_that_the_stock_client_would_misread_are_refused(line: bytes) -> None:
    with pytest.raises(BadFormat):
        Manifest.parse(BODY + line + b"\n")


@given(st.binary())
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with pytest.raises(BadFormat):
        Manifest.parse(data)
