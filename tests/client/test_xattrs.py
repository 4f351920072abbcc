from __future__ import annotations

import pytest
from msgspec.structs import replace

from stratus.client.xattrs import Facts, MagicXattrs, wants_catalog
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Kind
from stratus.formats.hashes import Algorithm
from tests.client.trees import ROOT, SmallRepository, directory, row, symlink, xattrs

SHA1 = Algorithm.SHA1
DIGEST = SHA1.digest(b"data")
FILE = row(b"/f", Kind.FILE, 0o644, size=4, content=Content(SHA1, DIGEST), xattrs=xattrs(own="1", fqrn="mine")).entry


@pytest.fixture
def magic() -> MagicXattrs:
    return MagicXattrs({"fqrn": lambda: "a.example.org"})


def test_magic_attributes_are_read_everywhere_but_listed_at_the_root(magic: MagicXattrs) -> None:
    assert magic.get(FILE, b"user.fqrn") == magic.get(ROOT.entry, b"user.fqrn") == b"a.example.org"
    assert magic.names(ROOT.entry) == [b"user.catalog_counters", b"user.fqrn"]
    assert magic.names(FILE) == [b"user.fqrn", b"user.own"]


def test_own_attributes(magic: MagicXattrs) -> None:
    assert magic.get(FILE, b"user.own") == b"1"
    assert magic.get(FILE, b"user.none") is None
    assert magic.get(FILE, b"security.capability") is None


def test_a_plain_file(magic: MagicXattrs) -> None:
    found = {name: magic.get(FILE, b"user." + name) for name in (b"hash", b"chunks", b"compression", b"direct_io")}
    assert found == {b"hash": str(DIGEST).encode(), b"chunks": b"1", b"compression": b"zlib", b"direct_io": b"0"}
    assert magic.get(FILE, b"user.chunk_list") == f"hash,offset,size\n{DIGEST},0,4\n".encode()
    assert magic.get(FILE, b"user.external_file") == b"0"


def test_a_chunked_file_has_no_hash(magic: MagicXattrs) -> None:
    content = Content(SHA1, None, Compression.NONE, (Chunk(0, 3, DIGEST), Chunk(3, 1, DIGEST)))
    entry = replace(FILE, content=content)
    assert magic.get(entry, b"user.hash") is None
    assert magic.get(entry, b"user.chunks") == b"2"
    assert magic.get(entry, b"user.compression") == b"none"
    assert magic.get(entry, b"user.chunk_list") == f"hash,offset,size\n{DIGEST},0,3\n{DIGEST},3,1\n".encode()


def test_long_chunk_lists_come_in_pages(magic: MagicXattrs) -> None:
    content = Content(SHA1, None, chunks=tuple(Chunk(number * 10, 10, DIGEST) for number in range(2000)))
    entry = replace(FILE, content=content)
    assert magic.get(entry, b"user.chunk_list~?") == b"num_pages, 3"
    assert magic.get(entry, b"user.chunk_list@?") == b"Pages available: 3"
    pages = [magic.get(entry, b"user.chunk_list~%d" % number) or b"" for number in range(3)]
    assert magic.get(entry, b"user.chunk_list") == pages[0]
    assert sum(page.count(b"\n") - 1 for page in pages) == 2000
    assert all(len(page) < 65536 for page in pages)
    assert magic.get(entry, b"user.chunk_list~3") is None
    assert magic.get(entry, b"user.chunk_list@2") == b"# Access page at idx: 2. Total num pages: 3\n" + pages[2]


def test_links_tell_their_raw_target(magic: MagicXattrs) -> None:
    link = symlink(b"/l", b"$(A)/\xff").entry
    assert magic.get(link, b"user.rawlink") == magic.get(link, b"xfsroot.rawlink") == b"$(A)/\xff"
    assert magic.get(FILE, b"user.rawlink") is None
    assert magic.get(directory(b"/d").entry, b"user.hash") is None


def test_counters_are_those_of_the_catalog(magic: MagicXattrs, repository: SmallRepository) -> None:
    repository.publish([directory(b"/n"), repository.file(b"/n/f", b"12345")], [b"/n"])
    tree = repository.tree()
    root, nested = tree.root, tree.catalog_of(b"/n")
    name = b"user.catalog_counters"
    assert wants_catalog(name)
    assert wants_catalog(name + b"~0")
    below = magic.get(FILE, name, nested)
    assert below is not None
    assert below.decode().splitlines()[:5] == [
        f"catalog_hash: {nested.at.digest}",
        "catalog_mountpoint: /n",
        "chunked,0",
        "chunked_size,0",
        "chunks,0",
    ]
    assert magic.get(FILE, name + b"~0", nested) == below
    whole = magic.get(FILE, name, root)
    assert whole is not None
    assert b"\ndir,3\n" in whole  # the mountpoint is in both
    assert b"\nfile_size,5\nnested,1\nregular,1\n" in whole
    tree.close()


def test_facts_have_the_forms_of_the_stock_client() -> None:
    attributes = Facts("a.example.org", 7, Algorithm.SHAKE128.digest(b""), "s3://b", "v1").attributes()
    assert attributes["revision"] == "7"
    assert attributes["root_hash"].endswith("-shake128")
    assert (attributes["tag"], attributes["host"], attributes["host_list"]) == ("v1", "s3://b", "s3://b")
