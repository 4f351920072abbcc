"""What ``headers.py`` reads itself and what it leaves to ``tarfile`` come out the same."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratus.errors import BadSource
from stratus.ingest import archives
from stratus.ingest.archives import Archive
from stratus.ingest.contract import Draft, Placement
from stratus.ingest.headers import Headers
from stratus.ingest.pipeline import Pipeline
from tests.ingest.reading import POLICY, Kept
from tests.ingest.test_archives import directory, link, member, symlink, tar

FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
_names = st.sampled_from(
    ["a", "b", "d/a", "d/b", "./c", "d", "d/", "x" * 120, "y" * 90 + "/" + "z" * 90, "\udce9", "e e"]
)
_times = st.sampled_from([0, 1, 2**33 + 1, 1_600_000_000, 1.5, 1_600_000_000.25])
_ids = st.sampled_from([0, 7, 2**21 - 1])
_headers = st.sampled_from(
    [{}, {"SCHILY.xattr.user.a": "v"}, {"comment": "c"}, {"mtime": "12.000000001"}, {"path": "p/q"}]
)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    name = draw(_names)
    kind = draw(st.sampled_from([b"0", b"0", b"0", b"7", b"5", b"2", b"1", b"6", b"3", b"V"]))
    data = draw(st.binary(max_size=1200)) if kind in b"07" else b""
    info, data = member(
        name, kind, data, mtime=draw(_times), uid=draw(_ids), gid=draw(_ids), mode=draw(st.integers(0, 0o7777))
    )
    info.pax_headers = dict(draw(_headers))
    if kind in b"12":
        info.linkname = draw(_names)
    return info, data


class _Unusual(Headers):
    """Leaves everything to ``tarfile``."""

    def next(self) -> None:
        self.held.clear()


Outcome = tuple[list[tuple[object, ...]], list[str], str]


def outcome(file: Path) -> Outcome:
    """Drafts with their bytes, warnings, and the error."""
    data = file.read_bytes()
    warnings: list[str] = []
    drafts: list[tuple[object, ...]] = []
    error = ""
    try:
        for draft in Archive(file).scan(Placement(b"/t", xattrs=True), warnings.append):
            drafts.append((*draft[:-1], _plain(draft, data)))  # noqa: PERF401 - what came before an error counts
    except BadSource as raised:
        error = raised.message
    return drafts, warnings, error


def _plain(draft: Draft, archive: bytes) -> bytes | None:
    if draft.body is None:
        return None
    where, offset = draft.body.where, draft.body.offset
    if isinstance(where, bytes):
        return where
    if isinstance(where, tuple):
        return archive[offset : offset + draft.body.size]
    data = draft.body.where = b"".join(where)
    return data


def both(file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Outcome]:
    """Read as always, and by ``tarfile`` alone."""
    fast = outcome(file)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "Headers", _Unusual)
        slow = outcome(file)
    return fast, slow


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(members(), max_size=6), st.sampled_from(FORMS), st.booleans(), st.data())
def test_both_roads_give_the_same_of_any_archive(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: list[tuple[tarfile.TarInfo, bytes]],
    form: int,
    compressed: bool,
    data: st.DataObject,
) -> None:
    try:
        archive = bytearray(tar(*found, form=form))
    except ValueError:
        return  # the form cannot hold it
    damage = data.draw(st.sampled_from(["none", "none", "cut", "flip"]))
    position = data.draw(st.integers(0, len(archive) - 1))
    if damage == "cut":
        del archive[position:]
    elif damage == "flip":
        archive[position] ^= data.draw(st.integers(1, 255))
    file = tmp_path / "archive"
    file.write_bytes(gzip.compress(archive, 1) if compressed else archive)
    fast, slow = both(file, monkeypatch)
    assert fast == slow


@pytest.mark.parametrize("form", FORMS)
def test_usual_archives_are_read_without_tarfile(form: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar(
        directory("d"),
        member("d/" + "n" * 95, data=b"x" * 700, mtime=5),
        link("d/b", "d/" + "n" * 95),
        symlink("s", "t"),
        member("z", data=b"1"),
        form=form,
    )
    file = tmp_path / "archive"
    file.write_bytes(data)
    taken: list[int] = []
    real = Headers.next

    def counted(self: Headers) -> object:
        member = real(self)
        taken.append(member is not None)
        return member

    monkeypatch.setattr(Headers, "next", counted)
    drafts = list(Archive(file).scan(Placement(b""), print))
    assert len(drafts) == 6  # one twice, for its link
    assert taken == [1] * 5 + [0]  # the end


def test_a_global_header_that_says_nothing_of_use_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a commit"}
    ) as archive:
        for name in ("a", "b"):
            info, data = member(name, data=name.encode() * 600)
            archive.addfile(info, io.BytesIO(data))
    file = tmp_path / "archive"
    file.write_bytes(buffer.getvalue())
    fast, slow = both(file, monkeypatch)
    assert fast == slow
    assert [(draft[0], draft[-1]) for draft in fast[0]] == [(b"/t/a", b"a" * 600), (b"/t/b", b"b" * 600)]


def test_a_global_header_that_matters_is_left_to_tarfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "3.5"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    file = tmp_path / "archive"
    file.write_bytes(buffer.getvalue())
    fast, slow = both(file, monkeypatch)
    assert fast == slow
    assert fast[0][0][6] == 3_500_000_000


def test_an_archive_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    file.write_bytes(tar(member("a", data=b"old")))
    with Pipeline(POLICY, Kept(), print) as pipeline:
        for draft in Archive(file).scan(Placement(b""), print):
            assert draft.body is not None
            pipeline.add(draft.path, draft.body)
        other = tmp_path / "other"
        other.write_bytes(tar(member("a", data=b"new")))
        other.replace(file)
        with pytest.raises(BadSource, match="changed while it was read"):
            pipeline.finish()
