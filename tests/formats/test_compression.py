from __future__ import annotations

import platform
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from stratus.errors import BadFormat
from stratus.formats.compression import Compression, Packing, deflate_fast
from stratus.formats.hashes import Algorithm, Digest
from tests import stock


@given(st.sampled_from(Compression), st.binary(max_size=1000))
def test_what_was_packed_is_unpacked(compression: Compression, plain: bytes) -> None:
    stored = compression.pack(plain)
    assert compression.unpack(stored) == plain
    assert compression.unpack(stored, len(plain)) == plain


def test_object_names_are_those_of_the_stock_tools(tmp_path: Path) -> None:
    repository = stock.unpack("sample", tmp_path)
    keys = [key for key in repository.object_keys() if key[-1] in "0123456789abcdefP"]
    assert len(keys) > 20
    for key in keys:
        plain = Compression.ZLIB.unpack(repository.read(key))
        name = Digest.parse(key.removeprefix("data/").replace("/", "").removesuffix("P"))
        assert Algorithm.SHA1.digest(Compression.ZLIB.pack(plain)) == name


def test_the_empty_file_has_its_well_known_name() -> None:
    assert str(Algorithm.SHA1.digest(Compression.ZLIB.pack(b""))) == "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"


@pytest.mark.parametrize(
    "stored",
    [b"", b"no zlib", zlib.compress(b"abc")[:-1], zlib.compress(b"abc") + b"x", zlib.compress(b"abc")[:-1] + b"x"],
    ids=["empty", "foreign", "cut", "tail", "checksum"],
)
@pytest.mark.parametrize("size", [None, 3])
def test_a_damaged_stream_is_refused(stored: bytes, size: int | None) -> None:
    with pytest.raises(BadFormat):
        Compression.ZLIB.unpack(stored, size)


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", [0, 2, 4])
def test_another_size_than_expected_is_refused(compression: Compression, size: int) -> None:
    with pytest.raises(BadFormat):
        compression.unpack(compression.pack(b"abc"), size)


def test_a_known_size_bounds_what_a_stream_may_unfold_to() -> None:
    with pytest.raises(BadFormat, match="more than the 10 bytes"):
        Compression.ZLIB.unpack(zlib.compress(bytes(1 << 24)), 10)


def test_unknown_compressions_are_refused() -> None:
    assert [Compression.from_bits(bits) for bits in (0, 1)] == [Compression.ZLIB, Compression.NONE]
    with pytest.raises(BadFormat):
        Compression.from_bits(2)


_NAMES = """
import hashlib, random
from stratus.formats.compression import deflate_fast
rng, names = random.Random(1), hashlib.sha1()
for _ in range(3000):
    words = [rng.choice([b"from", b"import", b"*", b"numpy", b"core", b"x"]) for _ in range(rng.randrange(60))]
    names.update(deflate_fast(b" ".join(words) * rng.choice([1, 1, 1, 200])))
print(names.hexdigest())
"""


def test_fast_streams_are_the_same_in_every_process() -> None:
    """Otherwise equal files would be different objects."""
    runs = [subprocess.run([sys.executable, "-c", _NAMES], check=True, capture_output=True) for _ in range(4)]
    assert len({run.stdout for run in runs}) == 1


def test_fast_streams_do_not_depend_on_where_the_deflater_keeps_its_state() -> None:
    assert _unsteady(deflate_fast) == 0


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="other machines have other code")
def test_streams_of_isal_alone_do_depend_on_it() -> None:
    """Should this fail, ISA-L is repaired, and the first byte need not be stored by itself any more."""
    assert _unsteady(isal_zlib.compress) > 0


def _unsteady(deflate: Callable[[bytes], bytes]) -> int:
    """How many of 400 inputs have different streams in threads that live at the same time, thus on other stacks."""
    rng = random.Random(1)
    plains = [rng.randbytes(rng.randrange(24, 60)) * 2 for _ in range(400)]
    threads = 16
    together = threading.Barrier(threads)

    def streams(_: int) -> list[bytes]:
        together.wait()
        return [deflate(plain) for plain in plains]

    with ThreadPoolExecutor(threads) as pool:
        return sum(len(set(found)) > 1 for found in zip(*pool.map(streams, range(threads)), strict=True))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 16, 17, 20, 8191, 8192, 32767, 32768, 32769, 65536, 300_000])
def test_fast_streams_of_every_size_are_zlib_streams(size: int) -> None:
    rng = random.Random(size)
    for plain in (bytes(size), rng.randbytes(size), (rng.randbytes(40_000) * 8)[:size], (b"abcde" * size)[:size]):
        assert Compression.ZLIB.unpack(deflate_fast(plain), size) == plain


@given(st.binary(max_size=1000), st.integers(1, 40))
def test_fast_streams_are_zlib_streams(plain: bytes, times: int) -> None:
    assert Compression.ZLIB.unpack(deflate_fast(plain * times)) == plain * times
    assert zlib.decompress(Packing.FAST.pack(memoryview(plain))) == plain
