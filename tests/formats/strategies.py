"""Values of the formats, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content, Entry, Kind, Row, Xattrs
from stratus.formats.hashes import Algorithm, Digest

algorithms = st.sampled_from(Algorithm)
raw_digests = st.binary(min_size=20, max_size=20)
digests = st.builds(Digest, algorithms, raw_digests)
names = st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))
paths = st.lists(names, max_size=4).map(lambda parts: b"".join(b"/" + part for part in parts))
fqrns = st.from_regex(r"[a-z][a-z0-9-]{0,9}(\.[a-z0-9-]{1,9}){1,3}", fullmatch=True)
_keys = st.binary(min_size=1, max_size=255).filter(lambda key: 0 not in key)
xattrs: st.SearchStrategy[Xattrs] = st.dictionaries(_keys, st.binary(max_size=255), max_size=5).map(
    lambda found: tuple(sorted(found.items()))
)
_numbers = st.integers(0, 2**32 - 1)


@st.composite
def contents(draw: st.DrawFn, size: int) -> Content:
    """Where ``size`` bytes are: in one object, or in two chunks with or without it."""
    algorithm = draw(algorithms)
    pieces: tuple[Chunk, ...] = ()
    if size > 1 and draw(st.booleans()):
        cut = draw(st.integers(1, size - 1))
        spans = ((0, cut), (cut, size - cut))
        pieces = tuple(Chunk(start, length, Digest(algorithm, draw(raw_digests))) for start, length in spans)
    whole = Digest(algorithm, draw(raw_digests)) if not pieces or draw(st.booleans()) else None
    flags = {"external": draw(st.booleans()), "direct_io": draw(st.booleans())}
    return Content(algorithm, whole, draw(st.sampled_from(Compression)), pieces, **flags)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A row of any kind, at a path that is not the root."""
    kind = draw(st.sampled_from(Kind))
    size = {Kind.FILE: draw(st.integers(0, 2**40)), Kind.DIRECTORY: 4096}.get(kind, 0)
    target = draw(st.binary(max_size=50).filter(lambda raw: 0 not in raw)) if kind is Kind.SYMLINK else b""
    entry = Entry(
        path=draw(paths.filter(bool)),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_numbers),
        gid=draw(_numbers),
        size=len(target) if kind is Kind.SYMLINK else size,
        mtime_ns=draw(st.integers(-(2**33), 2**61)),
        target=target,
        rdev=draw(_numbers) if kind in (Kind.BLOCK, Kind.CHARACTER) else 0,
        xattrs=draw(xattrs),
        group=draw(st.integers(0, 2**20)) if kind is Kind.FILE else 0,
        content=draw(contents(size)) if kind is Kind.FILE else None,
    )
    return Row(entry, links=draw(st.integers(1, 2**20)), hidden=draw(st.booleans()))
