from __future__ import annotations

import errno

import pytest
from msgspec.structs import replace

from stratus.client.inodes import InodeTable, inode_of, same_data
from stratus.formats.entries import Content, Kind
from stratus.formats.hashes import Algorithm
from tests.client.trees import ROOT, directory, row, symlink

SHA1 = Algorithm.SHA1
FILE = row(b"/d/f", Kind.FILE, 0o644, size=1, content=Content(SHA1, SHA1.digest(b"1")))
OTHER = row(b"/d/f", Kind.FILE, 0o644, size=1, content=Content(SHA1, SHA1.digest(b"2")))


def test_the_root_is_node_and_inode_1() -> None:
    table = InodeTable(ROOT)
    assert table.get(1).row is ROOT
    assert table.look_up(ROOT).number == inode_of(ROOT.entry) == 1
    table.forget(1, 5)
    assert table.get(1).row is ROOT


def test_inodes_come_from_paths_and_fit_48_bits() -> None:
    assert inode_of(FILE.entry) == inode_of(OTHER.entry) != inode_of(directory(b"/d").entry)
    assert 1 < inode_of(FILE.entry) < 1 << 48


def test_a_node_lives_until_all_its_lookups_are_forgotten() -> None:
    table = InodeTable(ROOT)
    node = table.look_up(FILE)
    assert table.look_up(FILE) is node
    assert len(table) == 2
    table.forget(node.number, 1)
    assert table.get(node.number) is node
    table.forget(node.number, 1)
    with pytest.raises(OSError) as caught:
        table.get(node.number)
    assert caught.value.errno == errno.ESTALE
    table.forget(node.number, 1)
    assert table.look_up(FILE).number > node.number


def test_other_data_at_a_path_is_another_node_with_the_same_inode() -> None:
    table = InodeTable(ROOT)
    old, new = table.look_up(FILE), table.look_up(OTHER)
    assert old.number != new.number
    assert old.inode == new.inode
    table.forget(old.number, 1)
    assert table.look_up(OTHER) is new


def test_other_attributes_are_the_same_node() -> None:
    table = InodeTable(ROOT)
    node = table.look_up(FILE)
    changed = replace(FILE, entry=replace(FILE.entry, mode=0o600), links=2)
    assert table.look_up(changed) is node
    assert table.get(node.number).row is changed


def test_hard_links_are_one_node() -> None:
    table = InodeTable(ROOT)
    one, two = (replace(FILE, entry=replace(FILE.entry, path=path, group=3)) for path in (b"/d/a", b"/d/b"))
    elsewhere = replace(FILE, entry=replace(FILE.entry, path=b"/e/a", group=3))
    assert table.look_up(one) is table.look_up(two)
    assert table.look_up(elsewhere) is not table.look_up(one)


def test_directories_are_known_by_path() -> None:
    table = InodeTable(ROOT)
    assert table.directory(b"/d") is None
    node = table.look_up(directory(b"/d"))
    assert table.directory(b"/d") is node
    assert table.nodes() == [table.get(1), node]


def test_what_the_kernel_caches_for_good_is_data() -> None:
    assert not same_data(FILE.entry, OTHER.entry)
    assert not same_data(FILE.entry, directory(b"/d/f").entry)
    assert not same_data(symlink(b"/l", b"a").entry, symlink(b"/l", b"b").entry)
    assert same_data(directory(b"/d").entry, directory(b"/d", 0o700).entry)
