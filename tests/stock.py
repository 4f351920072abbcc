"""Repositories that the stock tools wrote, unpacked as a directory store would hold them."""

from __future__ import annotations

import base64
import functools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId

NAMES = ("sample", "links", "w1", "shake", "rmd")
CLOCK = datetime(2026, 12, 1, tzinfo=UTC)  # all whitelists are valid then; they end on 2026-12-22 and 23
_DATA = Path(__file__).parent / "data" / "stock"


@dataclass(frozen=True, slots=True)
class StockRepository:
    """One of them.

    Attributes:
        fqrn: such as ``sample.example.org``.
        directory: what a web server would serve; named ``fqrn``, so its parent is the root of a directory store.
        public_key: PEM of the master key.
        listing: what the stock client showed at the newest revision (``entries``, ``xattrs_of_root``).
        tags: the same by tag, for the tags that have a listing.
    """

    fqrn: str
    directory: Path
    public_key: bytes
    listing: dict[str, Any]
    tags: dict[str, dict[str, Any]]

    @property
    def store(self) -> Path:
        """The directory that holds ``<fqrn>/``."""
        return self.directory.parent

    def read(self, name: str) -> bytes:
        """A file such as ``.cvmfspublished``."""
        return (self.directory / name).read_bytes()

    def stored(self, name: ObjectId) -> bytes:
        """An object as it is stored."""
        return self.read(name.key)

    def plain(self, name: ObjectId) -> bytes:
        """A zlib object, decompressed."""
        return Compression.ZLIB.unpack(self.stored(name))

    def object_keys(self) -> Iterator[str]:
        """The keys of all objects, ``data/xx/...``, sorted."""
        for file in sorted(self.directory.glob("data/??/*")):
            yield file.relative_to(self.directory).as_posix()

    def entries(self, tag: str | None = None) -> dict[bytes, dict[str, Any]]:
        """The listing of the newest revision or of a tag, by path (``b"/a/b"``)."""
        listing = self.listing if tag is None else self.tags[tag]
        return {b"/" + base64.b64decode(entry["path"]): entry for entry in listing["entries"]}


def unpack(name: str, tmp_path: Path) -> StockRepository:
    """Unpacks the repository ``name`` (one of NAMES) to ``tmp_path/<fqrn>``."""
    fqrn = f"{name}.example.org"
    directory = tmp_path / fqrn
    public_key = b""
    with tarfile.open(_DATA / f"{fqrn}.tar.gz") as archive:
        for member in archive:
            place, _, rest = member.name.removeprefix("./").partition("/")
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if place == "repo":
                target = directory / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read())
            elif rest == f"{fqrn}.pub":
                public_key = file.read()
    tags = {path.stem.partition("@")[2]: _listing(path.stem) for path in sorted(_DATA.glob(f"{fqrn}@*.json"))}
    return StockRepository(fqrn, directory, public_key, _listing(fqrn), tags)


@functools.cache
def _listing(stem: str) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads((_DATA / f"{stem}.json").read_text())
    return listing
