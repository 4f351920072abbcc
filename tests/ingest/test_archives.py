from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from stratus.errors import BadSource
from stratus.formats.chunking import ChunkLimits
from stratus.formats.compression import Packing
from stratus.formats.entries import Kind
from stratus.formats.hashes import Algorithm
from stratus.ingest.archives import Archive
from stratus.ingest.contract import Placement, Policy
from tests.ingest.reading import POLICY, TOP, Result, read

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
WITH_XATTRS = Placement(b"", xattrs=True)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    """One member; what ``fields`` names is set in its header."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def directory(name: str, mtime: int = 0) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, mode=0o755, mtime=mtime)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Result]:
    """Reads an archive of the given bytes."""

    def publish(data: bytes, placement: Placement = TOP, policy: Policy = POLICY) -> Result:
        file = tmp_path / "archive"
        file.write_bytes(data)
        return read(Archive(file), placement, policy)

    return publish


Publish = Callable[..., Result]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_form_in_every_compression(form: str, compression: str, publish: Publish) -> None:
    data = tar(
        directory("bin", mtime=5),
        member("bin/tool", data=b"tool\n" * 300, mode=0o4755, uid=7, gid=8, mtime=1_600_000_000),
        member("empty", mode=0o600),
        symlink("link", "bin/tool"),
        member("fifo", tarfile.FIFOTYPE, mode=0o640),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("disk", tarfile.BLKTYPE, devmajor=259, devminor=7),
        form=FORMATS[form],
    )
    result = publish(COMPRESSIONS[compression](data), Placement(b"/sw"))
    entries = result.entries
    assert result.order == [
        b"/sw/" + name for name in (b"bin", b"bin/tool", b"empty", b"link", b"fifo", b"null", b"disk")
    ]
    assert (entries[b"/sw/bin"].kind, entries[b"/sw/bin"].size) == (Kind.DIRECTORY, 4096)
    assert entries[b"/sw/bin"].mtime_ns == 5_000_000_000
    tool = entries[b"/sw/bin/tool"]
    assert (tool.kind, tool.mode, tool.uid, tool.gid, tool.size) == (Kind.FILE, 0o4755, 7, 8, 1500)
    assert tool.mtime_ns == 1_600_000_000_000_000_000
    assert result.plain(b"/sw/bin/tool") == b"tool\n" * 300
    assert (entries[b"/sw/empty"].size, result.plain(b"/sw/empty")) == (0, b"")
    assert (entries[b"/sw/link"].kind, entries[b"/sw/link"].target, entries[b"/sw/link"].size) == (
        Kind.SYMLINK,
        b"bin/tool",
        8,
    )
    assert (entries[b"/sw/fifo"].kind, entries[b"/sw/fifo"].mode) == (Kind.FIFO, 0o640)
    assert (entries[b"/sw/null"].kind, entries[b"/sw/null"].rdev) == (Kind.CHARACTER, os.makedev(1, 3))
    assert (entries[b"/sw/disk"].kind, entries[b"/sw/disk"].rdev) == (Kind.BLOCK, os.makedev(259, 7))
    assert entries[b"/sw/disk"].size == 0
    assert result.warnings == []


@pytest.mark.parametrize("form", FORMATS)
def test_names_and_targets_are_bytes(form: str, publish: Publish) -> None:
    name, target = b"d/latin1-\xe9\xff\n\xc3\xa9", b"../a/./b//\xff"
    data = tar(symlink(os.fsdecode(name), os.fsdecode(target)), form=FORMATS[form])
    assert publish(data).entries[b"/" + name].target == target


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_names_and_targets(form: str, publish: Publish) -> None:
    name = "/".join(["n" * 255] * 5)
    data = tar(symlink(name, "t" * 3000), form=FORMATS[form])
    assert publish(data).entries[b"/" + name.encode()].target == b"t" * 3000


def test_the_oldest_form_tells_directories_by_a_slash(publish: Publish) -> None:
    data = bytearray(tar(member("old/"), form=tarfile.USTAR_FORMAT))
    data[156:157] = b"\0"
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert publish(bytes(data)).entries[b"/old"].kind is Kind.DIRECTORY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234567890.123456789", 1_234_567_890_123_456_789),
        ("1234567890.1234567899", 1_234_567_890_123_456_789),
        ("1.5", 1_500_000_000),
        ("12.", 12_000_000_000),
        ("-1.25", -1_250_000_000),
    ],
)
def test_times_are_exact_to_the_nanosecond(text: str, expected: int, publish: Publish) -> None:
    data = tar(member("a", pax_headers={"mtime": text}))
    assert publish(data).entries[b"/a"].mtime_ns == expected


@pytest.mark.parametrize("text", ["tomorrow", "9" * 18, "9" * 30])
def test_a_time_that_is_none_is_refused(text: str, publish: Publish) -> None:
    with pytest.raises(BadSource, match="last change"):
        publish(tar(member("a", pax_headers={"mtime": text})))


def test_extended_attributes_are_read_only_if_the_policy_wants_them(publish: Publish) -> None:
    headers = {"SCHILY.xattr.user.z": "2\n", "SCHILY.xattr.user.b": os.fsdecode(b"\xff"), "comment": "x"}
    data = tar(member("a", pax_headers=headers))
    assert publish(data).entries[b"/a"].xattrs == ()
    assert publish(data, WITH_XATTRS).entries[b"/a"].xattrs == ((b"user.b", b"\xff"), (b"user.z", b"2\n"))


def test_extended_attributes_that_do_not_fit_are_refused(publish: Publish) -> None:
    data = tar(member("a", pax_headers={"SCHILY.xattr.user.a": "x" * 256}))
    with pytest.raises(BadSource, match="/a: its extended attributes"):
        publish(data, WITH_XATTRS)


@pytest.mark.parametrize("name", [".", "./"])
def test_the_top_directory_is_an_entry_below_the_root_only(name: str, publish: Publish) -> None:
    data = tar(directory(name, mtime=3), member("./a"))
    assert publish(data).order == [b"/a"]
    result = publish(data, Placement(b"/x/y"))
    assert result.order == [b"/x/y", b"/x/y/a"]
    assert result.entries[b"/x/y"].mtime_ns == 3_000_000_000


def test_directories_that_are_only_implied_are_left_to_the_commit(publish: Publish) -> None:
    assert publish(tar(member("a/b/c"))).order == [b"/a/b/c"]


def test_components_are_stripped_from_names_and_from_what_hard_links_name(publish: Publish) -> None:
    data = tar(directory("pkg"), member("pkg/a"), link("pkg/b", "pkg/a"), member("README"), symlink("pkg/s", "pkg/a"))
    result = publish(data, Placement(b"/x", strip_components=1))
    assert result.order == [b"/x/a", b"/x/a", b"/x/b", b"/x/s"]
    assert result.entries[b"/x/s"].target == b"pkg/a"
    assert result.warnings == ["README: no more than the components to strip, left out"]


def test_the_owner_of_the_placement_replaces_all(publish: Publish) -> None:
    result = publish(tar(directory("d"), member("d/a", uid=5), symlink("s", "d")), Placement(b"", owner=(0, 99)))
    assert {(entry.uid, entry.gid) for entry in result.entries.values()} == {(0, 99)}


def test_of_members_with_one_name_the_last_wins(publish: Publish) -> None:
    result = publish(tar(member("a", data=b"old"), member("./a", data=b"new"), member("b"), symlink("b", "a")))
    assert result.plain(b"/a") == b"new"
    assert result.entries[b"/b"].kind is Kind.SYMLINK


def test_equal_contents_are_stored_once(publish: Publish) -> None:
    assert len(publish(tar(member("a", data=b"x"), member("b", data=b"x"), member("c"), member("d"))).objects) == 2


def test_markers_are_ordinary_files(publish: Publish) -> None:
    assert publish(tar(member("d/.cvmfscatalog"))).entries[b"/d/.cvmfscatalog"].kind is Kind.FILE


def test_large_files_are_chunked(publish: Publish) -> None:
    policy = Policy(Algorithm.SHAKE128, Packing.NONE, ChunkLimits(100, 200, 400))
    result = publish(tar(member("a", data=b"\1" * 250)), policy=policy)
    content = result.entries[b"/a"].content
    assert content is not None
    assert [chunk.size for chunk in content.chunks] == [100, 100, 50]
    assert result.plain(b"/a") == b"\1" * 250


# -- hard links ------------------------------------------------------------------------------------------------------


def test_hard_links_in_one_directory_share_a_group(publish: Publish) -> None:
    data = tar(
        member("d/a", data=b"x", mode=0o751),
        link("d/b", "./d/a"),
        link("d/c", "d/b"),
        member("e/a", data=b"x"),
        link("e/b", "e/a"),
    )
    result = publish(data)
    groups = {path: entry.group for path, entry in result.entries.items()}
    assert groups == {b"/d/a": 1, b"/d/b": 1, b"/d/c": 1, b"/e/a": 2, b"/e/b": 2}
    assert result.order == [b"/d/a", b"/d/a", b"/d/b", b"/d/c", b"/e/a", b"/e/a", b"/e/b"]
    assert result.entries[b"/d/c"].mode == 0o751
    assert result.warnings == []


def test_hard_links_into_another_directory_are_files_of_their_own(publish: Publish) -> None:
    data = tar(member("a", data=b"x"), link("d/b", "a"), link("d/c", "a"), link("e/d", "d/c"), link("f", "a"))
    result = publish(data)
    groups = {path: entry.group for path, entry in result.entries.items()}
    assert groups == {b"/a": 2, b"/d/b": 1, b"/d/c": 1, b"/e/d": 0, b"/f": 2}
    assert result.plain(b"/e/d") == b"x"
    assert [warning.partition(":")[0] for warning in result.warnings] == ["/d/b", "/e/d"]


def test_a_name_that_became_another_file_is_no_link_any_more(publish: Publish) -> None:
    data = tar(member("a", data=b"x"), link("b", "a"), member("a", data=b"y"), link("c", "b"), link("d", "a"))
    result = publish(data)
    groups = {path: entry.group for path, entry in result.entries.items()}
    assert groups == {b"/a": 2, b"/b": 1, b"/c": 1, b"/d": 2}
    assert [result.plain(b"/" + name) for name in (b"a", b"b", b"c", b"d")] == [b"y", b"x", b"x", b"y"]


def test_a_hard_link_given_twice_is_one(publish: Publish) -> None:
    result = publish(tar(member("a"), link("b", "a"), link("b", "a"), link("a", "a")))
    assert {path: entry.group for path, entry in result.entries.items()} == {b"/a": 1, b"/b": 1}


def test_a_hard_link_to_a_symbolic_link_is_another_one(publish: Publish) -> None:
    result = publish(tar(symlink("a", "x"), link("b", "a")))
    assert (result.entries[b"/b"].kind, result.entries[b"/b"].target) == (Kind.SYMLINK, b"x")
    assert [entry.group for entry in result.entries.values()] == [0, 0]
    assert len(result.warnings) == 1


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([link("b", "a"), member("a")], "/b is a hard link to /a, which is not in the source before it"),
        ([directory("a"), link("b", "a")], "/b is a hard link to /a, which is a directory"),
        ([member("a"), link("b", "/a")], "'b' is a hard link that has an absolute name"),
        ([member("a"), link("b", "x/../a")], "'b' is a hard link that has"),
    ],
)
def test_a_hard_link_that_leads_nowhere_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], reason: str, publish: Publish
) -> None:
    with pytest.raises(BadSource, match=reason) as caught:
        publish(tar(*members))
    assert caught.value.hint


def test_a_hard_link_to_what_is_stripped_is_refused(publish: Publish) -> None:
    with pytest.raises(BadSource, match="'d/b' is a hard link to a, which is left out"):
        publish(tar(member("a"), link("d/b", "a")), Placement(b"", strip_components=1))


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../b", "a/..", "/"])
def test_a_name_that_leads_out_is_refused(name: str, publish: Publish) -> None:
    with pytest.raises(BadSource, match="the member") as caught:
        publish(tar(member("good"), member(name)))
    assert name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "bad",
    [
        member("n" * 256),
        member("a\0b", pax_headers={"path": "a\0b"}),
        member("."),
        member("a", uid=-1),
        member("a", gid=1 << 32),
        symlink("a", ""),
        member("a", tarfile.CHRTYPE, devmajor=-1),
    ],
)
def test_what_a_repository_cannot_hold_is_refused(bad: tuple[tarfile.TarInfo, bytes], publish: Publish) -> None:
    form = tarfile.GNU_FORMAT if min(bad[0].uid, bad[0].devmajor) < 0 else tarfile.PAX_FORMAT
    with pytest.raises(BadSource) as caught:
        publish(tar(bad, form=form))
    assert caught.value.hint


def test_an_owner_replaces_ids_that_do_not_fit(publish: Publish) -> None:
    assert publish(tar(member("a", uid=1 << 32)), Placement(b"", owner=(1, 2))).entries[b"/a"].uid == 1


@pytest.mark.parametrize(
    "members",
    [
        [symlink("lib", "usr/lib"), member("lib/a")],
        [member("lib"), member("lib/x/a")],
        [member("lib/a"), symlink("lib", "usr/lib")],
    ],
)
def test_entries_below_what_is_no_directory_are_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], publish: Publish
) -> None:
    with pytest.raises(BadSource, match="/x/lib is no directory"):
        publish(tar(*members), Placement(b"/x"))


def test_a_member_of_unknown_type_is_left_out_with_a_warning(publish: Publish) -> None:
    result = publish(tar(member("label", b"V"), member("a")))
    assert list(result.entries) == [b"/a"]
    assert len(result.warnings) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"# not an archive\n" * 100,
        bytes(100),
        b"PK\3\4" + bytes(600),
        gzip.compress(b"hello", mtime=0),
        b"\x7fELF" * 200,
    ],
)
def test_what_is_no_archive_is_refused_with_the_forms_that_are_understood(data: bytes, publish: Publish) -> None:
    with pytest.raises(BadSource, match="is not an archive") as caught:
        publish(data)
    assert "gzip, bzip2, xz" in caught.value.hint


def test_an_archive_of_nothing_is_one(publish: Publish) -> None:
    assert publish(tar()).order == []


def _two() -> bytes:
    return tar(
        member("first", data=os.urandom(3000)), member("second", data=os.urandom(3000)), form=tarfile.USTAR_FORMAT
    )


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_that_is_cut_off_names_the_last_good_member(compression: str, publish: Publish) -> None:
    # bzip2 packs the whole archive in one block, which is lost as a whole.
    where = "before its first member ends" if compression == "bzip2" else "after first"
    compressed = COMPRESSIONS[compression](_two())
    size = 512 + 3072 + 512 + 1500 if compression == "plain" else len(compressed) - 1000
    with pytest.raises(BadSource, match=f"damaged or cut off {where}") as caught:
        publish(compressed[:size])
    assert caught.value.hint


@pytest.mark.parametrize("size", [300, 512, 513, 3584, 3600, 4000, 4096, 4097, 7167, 7168])
def test_an_archive_that_is_cut_off_anywhere_is_refused(size: int, publish: Publish) -> None:
    with pytest.raises(BadSource, match="not an archive" if size < 512 else "damaged or cut off"):
        publish(_two()[:size])


def test_a_damaged_header_is_not_taken_for_the_end(publish: Publish) -> None:
    data = bytearray(_two())
    data[3584 + 20] ^= 1
    with pytest.raises(BadSource, match="damaged or cut off after first: bad checksum"):
        publish(bytes(data))


def test_a_header_of_zeros_is_not_taken_for_the_end(publish: Publish) -> None:
    data = bytearray(_two())
    data[3584:4096] = bytes(512)
    with pytest.raises(BadSource, match="damaged or cut off after first: a header of zeros"):
        publish(bytes(data))


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
def test_damage_behind_the_last_member_is_found(compression: str, publish: Publish) -> None:
    data = bytearray(COMPRESSIONS[compression](_two()))
    data[-6] ^= 1
    with pytest.raises(BadSource, match="damaged or cut off"):
        publish(bytes(data))


@pytest.mark.parametrize("size", [-512, -1, -(1 << 62)])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.LNKTYPE])
def test_sizes_below_zero_end_the_reading(size: int, kind: bytes, publish: Publish) -> None:
    data = bytearray(tar(member("a"), member("b"), form=tarfile.USTAR_FORMAT))
    data[512 + 124 : 512 + 136] = b"\xff" + (size & ((1 << 88) - 1)).to_bytes(11, "big")
    data[512 + 156 : 512 + 157] = kind
    data[512 + 148 : 512 + 156] = b" " * 8
    data[512 + 148 : 512 + 156] = b"%06o\0 " % sum(data[512:1024])
    with pytest.raises(BadSource, match="damaged or cut off after a"):
        publish(bytes(data))


def test_damage_anywhere_gives_entries_or_a_bad_source_never_anything_else(publish: Publish) -> None:
    data = tar(
        directory("d"),
        member("d/a", data=b"x" * 600, pax_headers={"mtime": "1.5", "SCHILY.xattr.user.a": "b"}),
        link("d/b", "d/a"),
        symlink("s" * 120, "t" * 120),
    )
    errors = []
    for position in range(0, len(data), 37):
        damaged = bytearray(data)
        damaged[position] ^= 0x5A
        try:
            publish(bytes(damaged), WITH_XATTRS)
        except BadSource as error:
            errors.append(error)
    assert errors
    assert all(error.hint for error in errors)


def test_what_follows_the_end_is_left_out_with_a_warning(publish: Publish) -> None:
    result = publish(tar(member("a")) + tar(member("b")))
    assert list(result.entries) == [b"/a"]
    assert len(result.warnings) == 1


# -- archives by others ----------------------------------------------------------------------------------------------


def test_sparse_files_have_their_holes(publish: Publish, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs GNU tar")
    with (tmp_path / "sparse").open("wb") as file:
        for offset in range(0, 20 << 20, 2 << 20):  # more pieces than one header holds
            file.seek(offset)
            file.write(b"data")
        file.truncate(21 << 20)
    expected = (tmp_path / "sparse").read_bytes()
    for form in (["--format=gnu"], *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))):
        command = ["tar", "-C", str(tmp_path), "-cS", *form, "sparse"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        assert len(data) < 1 << 20
        result = publish(data)
        assert result.plain(b"/sparse") == expected
        assert result.entries[b"/sparse"].size == 21 << 20


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
@pytest.mark.parametrize("form", ["v7", "ustar", "gnu", "pax"])
def test_archives_of_other_programs(program: str, form: str, tmp_path: Path, publish: Publish) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    if program == "bsdtar":
        form = {"gnu": "gnutar"}.get(form, form)
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d" / "a").write_bytes(b"data")
    (top / "d" / "b").hardlink_to(top / "d" / "a")
    (top / os.fsdecode(b"\xe9")).symlink_to("d/a")
    os.utime(top / "d" / "a", ns=(0, 1_600_000_000_123_456_789))
    command = [program, "-C", str(top), "--format", form, "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    result = publish(data, Placement(b"/x"))
    assert sorted(result.entries) == [b"/x", b"/x/d", b"/x/d/a", b"/x/d/b", b"/x/\xe9"]
    assert {result.entries[path].group for path in (b"/x/d/a", b"/x/d/b")} == {1}
    assert result.plain(b"/x/d/b") == b"data"
    nanoseconds = 123_456_789 if form == "pax" else 0
    assert result.entries[b"/x/d/a"].mtime_ns == 1_600_000_000_000_000_000 + nanoseconds


def test_zstd_is_read_or_its_absence_explained(publish: Publish) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    data = subprocess.run(["zstd", "-c"], input=tar(member("a", data=b"x")), check=True, capture_output=True).stdout
    if any(_is_there(module) for module in ("compression.zstd", "backports.zstd")):
        assert publish(data).plain(b"/a") == b"x"
    else:
        with pytest.raises(BadSource, match="compressed by zstd") as caught:
            publish(data)
        assert "zstd -dc" in caught.value.hint


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def test_the_standard_librarys_collection_of_members(publish: Publish) -> None:
    """Regular files, long names, links, sparse files and devices in every form; one name leads out."""
    file = Path(pytest.importorskip("test.support").__file__).parent.parent / "testtar.tar"
    if not file.exists():
        file = file.with_name("archivetestdata") / "testtar.tar"
    if not file.exists():
        pytest.skip("Python comes without its test data")
    with tarfile.open(file, encoding="utf-8", errors="surrogateescape") as archive:
        known = [info for info in archive if not info.name.startswith("/") and info.type in tarfile.SUPPORTED_TYPES]
        files = {info.name: archive.extractfile(info) for info in known if info.isreg()}
        expected = {name: file.read() for name, file in files.items() if file is not None}
    result = publish(file.read_bytes())
    assert len(result.entries) == len({info.name for info in known})
    for name, plain in expected.items():
        assert result.plain(b"/" + os.fsencode(name)) == plain


# -- streaming -------------------------------------------------------------------------------------------------------


def test_a_large_member_streams_with_bounded_memory(tmp_path: Path) -> None:
    size, maximum = 64 << 20, 2 << 20
    file = tmp_path / "archive"
    info = tarfile.TarInfo("zeros")
    info.size = size
    with file.open("wb") as archive:
        archive.write(info.tobuf())
        archive.truncate(512 + size + 1024)
    policy = Policy(Algorithm.SHA1, Packing.UPSTREAM, ChunkLimits(512 << 10, 1 << 20, maximum))
    tracemalloc.start()
    try:
        result = read(Archive(file), policy=policy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.entries[b"/zeros"].size == size
    assert len(result.objects) == 1  # all chunks are equal
    assert peak < 8 * maximum


def test_leaving_off_early_closes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    file.write_bytes(gzip.compress(tar(member("a", data=b"x"), member("b"))))
    drafts = Archive(file).scan(TOP, lambda _: None)
    next(drafts)
    drafts.close()  # type: ignore[attr-defined]  # a generator; an open file would be reported as a warning
