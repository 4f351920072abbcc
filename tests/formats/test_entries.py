from __future__ import annotations

import stat

import pytest

from stratus.formats.entries import Chunk, Content, Entry, Kind
from stratus.formats.hashes import Algorithm, Digest

WHOLE = Algorithm.SHA1.digest(b"whole")
PARTS = tuple(Chunk(offset, 4, Algorithm.SHA1.digest(bytes([offset]))) for offset in (0, 4))


@pytest.mark.parametrize("kind", Kind)
def test_the_mode_of_stat_has_permissions_and_type(kind: Kind) -> None:
    entry = Entry(b"/a", kind, 0o4751, 0, 0, 0, 0)
    assert (stat.S_IFMT(entry.st_mode), stat.S_IMODE(entry.st_mode)) == (kind.value, 0o4751)


@pytest.mark.parametrize(
    ("digest", "chunks", "external", "names"),
    [
        (WHOLE, (), False, [str(WHOLE)]),
        (None, PARTS, False, [f"{chunk.digest}P" for chunk in PARTS]),
        (WHOLE, PARTS, False, [*(f"{chunk.digest}P" for chunk in PARTS), str(WHOLE)]),
        (WHOLE, PARTS, True, []),
    ],
    ids=["whole", "chunked", "both", "external"],
)
def test_a_file_needs_the_objects_that_it_names(
    digest: Digest | None, chunks: tuple[Chunk, ...], external: bool, names: list[str]
) -> None:
    content = Content(Algorithm.SHA1, digest, chunks=chunks, external=external)
    assert [str(name) for name in content.objects()] == names
