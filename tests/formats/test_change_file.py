from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratus.errors import BadFormat
from stratus.formats import change_file, counters
from stratus.formats.changes import Attach, Change, ChangeSet, Put, Remove, Tag, Untag, Usage
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from tests.formats.strategies import rows

_digests = st.builds(Digest, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20))
_texts = st.text(st.characters(codec="utf-8") | st.sampled_from("\udcff\udc80"), max_size=20)
_changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda row: Put(row.entry), rows()),
    st.builds(Remove, st.binary(max_size=20), st.booleans()),
    st.builds(lambda row, digest: Attach(row.entry, 3, digest, 16384, {**counters.zero(), "dir": 7}), rows(), _digests),
    st.builds(Tag, st.text(max_size=9), st.none() | st.integers(0, 2**40), _texts),
    st.builds(Untag, st.text(max_size=9)),
)
_change_sets = st.builds(
    ChangeSet,
    id=st.text("abcdefgh234567", min_size=20, max_size=20),
    repository=st.just("test.example.org"),
    path=st.binary(max_size=20),
    changes=st.lists(_changes, max_size=8).map(tuple),
    objects=st.lists(st.builds(ObjectId, _digests, st.sampled_from(Suffix)), max_size=5).map(tuple),
    base=st.none() | st.integers(0, 2**40),
    writer=_texts,
    message=_texts,
    tag=st.none() | st.text(max_size=9),
    expected=st.dictionaries(st.binary(max_size=9), _digests, max_size=3),
    usage=st.builds(Usage, st.floats(0, 1e6), *[st.integers(0, 2**40)] * 5, st.tuples(*[st.integers(0, 2**40)] * 5)),
    warnings=st.lists(_texts, max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(_change_sets)
def test_a_change_set_reads_back_and_its_records_can_be_read_twice(change_set: ChangeSet) -> None:
    file = change_file.pack(change_set)
    found = change_file.parse(file)
    for _ in range(2):
        assert tuple(found.changes) == change_set.changes
        assert tuple(found.objects) == change_set.objects
    for name in ("id", "path", "base", "writer", "message", "tag", "expected", "usage", "warnings"):
        assert getattr(found, name) == getattr(change_set, name)
    assert change_file.digest(file) == change_file.digest(bytes(file))


def small() -> bytes:
    return change_file.pack(ChangeSet("a" * 20, "test.example.org", b"", (Remove(b"/a"), Untag("x"))))


def read(file: bytes) -> tuple[Change, ...]:
    return tuple(change_file.parse(file).changes)


def test_a_file_that_is_cut_off_anywhere_is_refused() -> None:
    file = small()
    for end in range(len(file)):
        with pytest.raises(BadFormat):
            read(file[:end])


def test_damage_and_other_formats_are_refused() -> None:
    file = small()
    for damaged in (file + b"x", b"stratus change set 2\n" + file[21:], file[:30] + b"\xff" + file[31:], b""):
        with pytest.raises(BadFormat):
            read(damaged)
