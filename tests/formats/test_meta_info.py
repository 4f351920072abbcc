from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadFormat, UsageError
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.meta_info import MetaInfo
from tests import stock

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2))
META_INFOS = st.builds(
    MetaInfo,
    administrator=TEXT,
    email=TEXT,
    organisation=TEXT,
    description=TEXT,
    url=TEXT,
    recommended_stratum0=TEXT,
    recommended_stratum1s=st.lists(TEXT, max_size=3).map(tuple),
    custom=st.dictionaries(TEXT, VALUES, max_size=3),
)


@given(META_INFOS)
def test_meta_info_survives_its_text(meta_info: MetaInfo) -> None:
    assert MetaInfo.parse(meta_info.pack()) == meta_info


def test_that_of_the_stock_tools_is_understood(tmp_path: Path) -> None:
    repository = stock.unpack("sample", tmp_path)
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    assert manifest.meta_info is not None
    found = MetaInfo.parse(repository.plain(ObjectId(manifest.meta_info, Suffix.META_INFO)))
    assert found == MetaInfo(
        administrator="Your Name",
        email="you@organisation.org",
        organisation="Your Organisation",
        description="Repository content",
        url="Project website",
        recommended_stratum0="stratum 0 url",
        recommended_stratum1s=("stratum1 url", "stratum1 url"),
        custom={"_comment": "Put arbitrary structured data here"},
    )


def test_what_is_missing_or_of_another_type_is_empty() -> None:
    assert MetaInfo.parse(b'{"email": 5, "custom": [], "recommended-stratum1s": "x", "other": 1}') == MetaInfo()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        MetaInfo.parse(data)


def test_more_than_clients_show_cannot_be_written() -> None:
    with pytest.raises(UsageError):
        MetaInfo(description="x" * 65536).pack()
