"""The file system's answers, asked without a kernel; what the kernel makes of them is in test_mount_*."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from typing_extensions import Buffer

from stratus.catalogs.tree import CatalogTree
from stratus.client.cache import Cache
from stratus.client.content import ContentReader
from stratus.client.filesystem import ReadOnlyFileSystem, expand
from stratus.client.fuse import protocol
from stratus.client.fuse.calls import Later, Reply
from stratus.client.xattrs import Facts
from stratus.errors import StoreError
from tests.client.trees import SmallRepository, directory, symlink

BELOW_NESTED = [directory(b"/n"), symlink(b"/n/f", b"x"), symlink(b"/top", b"y")]


class Told:
    """Remembers what the kernel is told."""

    def __init__(self) -> None:
        self.notices: list[tuple[object, ...]] = []

    def entry(self, parent: int, name: bytes) -> None:
        self.notices.append(("entry", parent, name))

    def attributes(self, node: int) -> None:
        self.notices.append(("attributes", node))

    def listing(self, node: int) -> None:
        self.notices.append(("listing", node))


class Shown:
    """A file system on the newest revision of a repository."""

    def __init__(self, repository: SmallRepository, directory: Path) -> None:
        self.repository = repository
        self.tree = repository.tree()
        self.files = ReadOnlyFileSystem(
            self.tree, self.facts(), ContentReader(Cache(directory, repository.fetch)), environment={b"A": b"expanded"}
        )
        self.told = Told()

    def facts(self) -> Facts:
        newest = self.repository.latest()
        return Facts(self.repository.fqrn, newest.revision, newest.root)

    def follow(self, tree: CatalogTree | None = None) -> list[tuple[object, ...]]:
        self.told.notices.clear()
        self.files.follow(tree or self.repository.tree(), self.facts(), self.told)
        return self.told.notices

    def node(self, name: bytes, parent: int = 1) -> int:
        """What a look-up gives, 0 if nothing is there."""
        return int(struct.unpack_from("=Q", wait(self.files.lookup(parent, name)))[0])

    def list(self, node: int = 1) -> list[tuple[bytes, int]]:
        """Names and offsets."""
        (handle,) = struct.unpack_from("=Q", wait(self.files.opendir(node)))
        found = names(wait(self.files.readdir(node, handle, 0, 4096, False)))
        self.files.releasedir(handle)
        return found


def wait(reply: Reply) -> bytes:
    return bytes(reply.finish(reply.work()) if isinstance(reply, Later) else reply)


def names(packed: Buffer) -> list[tuple[bytes, int]]:
    data, found = bytes(packed), []
    while data:
        _, offset, length, _ = struct.unpack_from("=QQII", data)
        found.append((data[24 : 24 + length], offset))
        data = data[24 + (length + 7) // 8 * 8 :]
    return found


@pytest.mark.parametrize(
    ("raw", "expanded"),
    [
        (b"plain", b"plain"),
        (b"$(A)/lib", b"value/lib"),
        (b"$(B)", b""),
        (b"$(B:-else)/$(A:-else)", b"else/value"),
        (b"$(A", b"$(A"),
        (b"$A", b"$A"),
    ],
)
def test_variables_in_targets(raw: bytes, expanded: bytes) -> None:
    assert expand(raw, {b"A": b"value"}) == expanded


def test_what_is_not_loaded_is_waited_for(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish(BELOW_NESTED, [b"/n"])
    shown = Shown(repository, tmp_path / "cache")
    assert not isinstance(shown.files.lookup(1, b"n"), Later)
    nested = shown.node(b"n")
    assert isinstance(shown.files.lookup(nested, b"f"), Later)
    (handle,) = struct.unpack_from("=Q", wait(shown.files.opendir(nested)))
    assert isinstance(shown.files.readdir(nested, handle, 0, 4096, True), Later)
    assert isinstance(shown.files.getxattr(nested, b"user.catalog_counters"), Later)
    assert shown.node(b"f", nested)
    assert not isinstance(shown.files.lookup(nested, b"f"), Later)


def test_listings_go_on_at_every_offset(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish([symlink(b"/%d" % number, b"x") for number in range(10)] + [directory(b"/.hidden", hidden=True)])
    shown = Shown(repository, tmp_path / "cache")
    whole = shown.list()
    assert [name for name, _ in whole] == [b".", b"..", *(b"%d" % number for number in range(10))]
    (handle,) = struct.unpack_from("=Q", wait(shown.files.opendir(1)))
    for index, (_, offset) in enumerate(whole):
        assert names(wait(shown.files.readdir(1, handle, offset, 64, False))) == whole[index + 1 : index + 3]
    plus = wait(shown.files.readdir(1, handle, 0, 4096, True))
    assert len(plus) == len(wait(shown.files.readdir(1, handle, 0, 4096, False))) + 12 * protocol.ENTRY_SIZE
    shown.files.releasedir(handle)
    with pytest.raises(OSError) as caught:
        shown.files.readdir(1, handle, 0, 64, False)
    assert caught.value.errno == errno.EBADF


def test_the_kernel_is_told_exactly_what_changed(repository: SmallRepository, tmp_path: Path) -> None:
    before = [symlink(b"/same", b"1"), symlink(b"/other", b"1"), symlink(b"/gone", b"1"), directory(b"/d")]
    repository.publish(before)
    shown = Shown(repository, tmp_path / "cache")
    known = {name: shown.node(name) for name in (b"same", b"other", b"gone", b"d")}
    assert shown.follow() == []
    repository.publish([symlink(b"/same", b"1"), symlink(b"/other", b"2"), directory(b"/d", 0o700)])
    assert set(shown.follow()) == {
        ("listing", 1),
        ("entry", 1, b"other"),
        ("entry", 1, b"gone"),
        ("attributes", known[b"d"]),
        ("listing", known[b"d"]),
    }
    assert shown.node(b"same") == known[b"same"]
    assert shown.node(b"other") != known[b"other"]
    assert wait(shown.files.readlink(known[b"other"])) == b"1"
    assert wait(shown.files.readlink(shown.node(b"other"))) == b"2"
    assert shown.node(b"gone") == 0


def test_unchanged_catalogs_are_neither_loaded_nor_told_about(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish(BELOW_NESTED, [b"/n"])
    shown = Shown(repository, tmp_path / "cache")
    nested = shown.node(b"n")
    shown.node(b"f", nested)
    repository.publish([*BELOW_NESTED, symlink(b"/more", b"z")], [b"/n"])
    tree = repository.tree()
    assert shown.follow(tree) == [("listing", 1)]
    assert tree.loaded == 1


def test_a_revision_that_cannot_be_loaded_is_not_shown(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish(BELOW_NESTED, [b"/n"])
    shown = Shown(repository, tmp_path / "cache")
    shown.node(b"f", shown.node(b"n"))
    repository.publish([directory(b"/n"), symlink(b"/n/f", b"new")], [b"/n"])
    tree = repository.tree()
    repository.break_store()
    with pytest.raises(StoreError, match="broken"):
        shown.files.follow(tree, Facts("a", 2, tree.root.at.digest), shown.told)
    assert shown.told.notices == []
    assert shown.node(b"top") != 0
    assert shown.files.getxattr(1, b"user.revision") == b"1"
    repository.break_store(False)
    assert ("entry", 1, b"top") in shown.follow(tree)
    assert shown.node(b"top") == 0


def test_an_answer_that_was_under_way_is_of_the_revision_that_is_shown(
    repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish(BELOW_NESTED, [b"/n"])
    shown = Shown(repository, tmp_path / "cache")
    nested = shown.node(b"n")
    under_way = shown.files.lookup(nested, b"f")
    assert isinstance(under_way, Later)
    old = under_way.work()
    repository.publish([directory(b"/n"), symlink(b"/n/f", b"new")], [b"/n"])
    shown.follow()
    (node,) = struct.unpack_from("=Q", under_way.finish(old))
    assert wait(shown.files.readlink(node)) == b"new"


def test_a_listing_that_is_rewound_is_read_anew(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish([symlink(b"/a", b"1"), symlink(b"/b", b"1")])
    shown = Shown(repository, tmp_path / "cache")
    old = shown.list()
    (handle,) = struct.unpack_from("=Q", wait(shown.files.opendir(1)))
    repository.publish([symlink(b"/c", b"1"), symlink(b"/d", b"1")])
    shown.follow()
    # Going on in the old listing gives old names, and nothing that the kernel would keep.
    rest = wait(shown.files.readdir(1, handle, old[2][1], 4096, True))
    assert struct.unpack_from("=Q", rest)[0] == 0
    assert rest.count(b"b") == 1
    new = names(wait(shown.files.readdir(1, handle, 0, 4096, False)))
    assert [name for name, _ in new] == [b".", b"..", b"c", b"d"]
    assert not {offset for _, offset in new} & {offset for _, offset in old}
    shown.files.releasedir(handle)


def test_forgotten_and_unknown_nodes_are_stale(repository: SmallRepository, tmp_path: Path) -> None:
    repository.publish([symlink(b"/a", b"$(A)")])
    shown = Shown(repository, tmp_path / "cache")
    node = shown.node(b"a")
    assert wait(shown.files.readlink(node)) == b"expanded"
    shown.files.forget(node, 1)
    for number in (node, 999):
        with pytest.raises(OSError) as caught:
            shown.files.getattr(number)
        assert caught.value.errno == errno.ESTALE


def test_the_kernel_is_told_of_absent_names_that_come_and_of_no_others(
    repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish([directory(b"/n"), directory(b"/m")], [b"/m"])
    shown = Shown(repository, tmp_path / "cache")
    inode = shown.node(b"n")
    assert [shown.node(b"new"), shown.node(b"never"), shown.node(b"f", inode)] == [0, 0, 0]
    repository.publish([directory(b"/n"), directory(b"/m"), *BELOW_NESTED[1:], symlink(b"/new", b"x")], [b"/m"])
    told = shown.follow()
    assert ("entry", protocol.ROOT, b"new") in told
    assert ("entry", inode, b"f") in told
    assert [notice for notice in told if b"never" in notice] == []
