"""Random trees, publishes and removals of them, and a plain model of what a repository then holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from stratus.formats import paths
from stratus.formats.entries import Entry, Kind, Xattrs
from stratus.ingest.contract import Body, Draft, Placement, Warn

MARKER = b".cvmfscatalog"
CHUNKS = (64, 128, 256)  # limits of the repositories that these trees go into

_names = st.sampled_from([b"a", b"b", b"b.c", b"-", b"\xff\xfe", b"\n", b"n" * 255, MARKER])
_sizes = st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000])
_SPECIAL = (Kind.FIFO, Kind.SOCKET, Kind.CHARACTER, Kind.BLOCK)


@dataclass(frozen=True, slots=True)
class Node:
    """One file, directory, link or device; ``mtime_ns`` None is that of the commit, which nobody knows before."""

    kind: Kind
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    mtime_ns: int | None = None
    data: bytes = b""
    target: bytes = b""
    rdev: int = 0
    xattrs: Xattrs = ()
    links: frozenset[bytes] = frozenset()  # all names of a hard-link set, none for a single file


Model = dict[bytes, Node]


@dataclass(frozen=True, slots=True)
class Tree:
    """A source of these nodes, by path below where it lands."""

    nodes: Model
    name: str = "tree"

    def scan(self, placement: Placement, warn: Warn) -> Iterator[Draft]:
        groups: dict[frozenset[bytes], int] = {}
        for path, node in self.nodes.items():
            body = Body(node.data, len(node.data)) if node.kind is Kind.FILE else None
            yield Draft(
                placement.path + path,
                node.kind,
                node.mode,
                *node.owner,
                4096 if node.kind is Kind.DIRECTORY else len(node.target),
                node.mtime_ns or 0,
                target=node.target,
                rdev=node.rdev,
                xattrs=node.xattrs,
                group=groups.setdefault(node.links, len(groups) + 1) if node.links else 0,
                body=body,
            )


@dataclass(frozen=True, slots=True)
class Step:
    """A publish of ``tree`` to ``path`` (``replace``: the path becomes equal to it), or without one a removal.

    A removal is of the ``pick``-th path that is there, so that there is one.
    """

    path: bytes
    tree: Model | None
    replace: bool = False
    pick: int = 0

    def aimed(self, model: Model) -> Step:
        """The step with its path, if it is a removal that has to look for one."""
        if self.tree is not None or not model:
            return self
        return replace(self, path=sorted(model)[self.pick % len(model)])


def apply(model: Model, step: Step) -> None:
    """Does to the model what publishing must do to the repository."""
    if step.tree is None:
        _remove(model, step.path)
        return
    landed = {step.path + path: node for path, node in step.tree.items()}
    landed = {
        path: replace(node, links=frozenset(step.path + name for name in node.links)) for path, node in landed.items()
    }
    if step.replace:
        kept = set(landed) | {ancestor for path in landed for ancestor in paths.ancestors(path)}
        for path in [path for path in model if path != step.path and paths.contains(step.path, path)]:
            if path not in kept and path in model:
                _remove(model, path)
    top = landed.get(step.path)
    changed = top is not None and top != model.get(step.path)
    for path in sorted(landed, key=paths.components):
        node = landed[path]
        for ancestor in paths.ancestors(path)[1:]:
            # Nobody names it: it is whose the path of the publish is, if that is written too.
            owner = top.owner if top is not None and changed else node.owner
            model.setdefault(ancestor, Node(Kind.DIRECTORY, owner=owner))
        if path in model and model[path].kind is not node.kind:
            _remove(model, path)
        if model.get(path) != node:
            _unlink(model, path)
            model[path] = node


def possible(model: Model, step: Step) -> bool:
    """Whether the step makes sense: what it removes is there, and no file is in the place of a directory."""
    if step.tree is None:
        return step.path in model
    directories = {ancestor for path in step.tree for ancestor in paths.ancestors(step.path + path)[1:]}
    directories |= set(paths.ancestors(step.path)[1:]) | {step.path}
    landed = {step.path + path: node for path, node in step.tree.items()}
    for directory in directories:
        found = landed.get(directory) or model.get(directory)
        if directory and found is not None and found.kind is not Kind.DIRECTORY:
            return False
    return True


def _remove(model: Model, path: bytes) -> None:
    for known in [known for known in model if paths.contains(path, known)]:
        _unlink(model, known)
        del model[known]


def _unlink(model: Model, path: bytes) -> None:
    """The name leaves its hard-link set; the last one left is a single file."""
    links = model[path].links if path in model else frozenset()
    if not links:
        return
    left = links - {path}
    for name in left:
        model[name] = replace(model[name], links=left if len(left) > 1 else frozenset())
    model[path] = replace(model[path], links=frozenset())


@st.composite
def _nodes(draw: st.DrawFn, path: bytes) -> Node:
    marker = paths.name(path) == MARKER
    kinds = [Kind.FILE] if marker else [Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.DIRECTORY, Kind.SYMLINK, *_SPECIAL]
    kind = draw(st.sampled_from(kinds))
    mode = draw(st.sampled_from([0o644, 0o4755, 0o1777, 0])) if kind is not Kind.SYMLINK else 0o777
    owner = draw(st.sampled_from([(0, 0), (1000, 100), (2**32 - 1, 5)]))
    mtime = draw(st.sampled_from([0, 1, 1_700_000_000_123_456_789, -1_500_000_000]))
    node = Node(kind, mode, owner, mtime)
    if kind is Kind.FILE:
        seed, size = draw(st.integers(0, 2)), draw(_sizes)
        xattrs = draw(
            st.sampled_from([(), (), ((b"user.k", b"v" * 255),), ((b"user.a", b""), (b"user.b", b"\x00\xff"))])
        )
        return replace(node, data=(b"%d\n" % seed * 500)[:size] if seed else bytes(size), xattrs=xattrs)
    if kind is Kind.SYMLINK:
        return replace(node, target=draw(st.sampled_from([b"a", b"../x", b"/\xff", b"$(HOME)/x"])))
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        return replace(node, rdev=os.makedev(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))))
    return node


@st.composite
def trees(draw: st.DrawFn) -> Model:
    """A small tree whose every path lies in a directory of it, or in none that it names."""
    names: list[bytes] = draw(
        st.lists(st.lists(_names, min_size=1, max_size=3).map(paths.join), min_size=1, max_size=8, unique=True)
    )
    tree: Model = {}
    for path in sorted(names, key=paths.components):
        above = [tree[ancestor] for ancestor in paths.ancestors(path)[1:] if ancestor in tree]
        if MARKER in paths.components(paths.parent(path)) or any(node.kind is not Kind.DIRECTORY for node in above):
            continue
        if path == b"/" + MARKER:
            continue
        tree[path] = draw(_nodes(path))
    files = [path for path, node in tree.items() if node.kind is Kind.FILE and paths.name(path) != MARKER]
    linked: bool = draw(st.booleans())
    if files and linked:
        first: bytes = draw(st.sampled_from(files))
        second = paths.parent(first) + b"/hard"
        links: frozenset[bytes] = frozenset((first, second))
        tree[first] = tree[second] = replace(tree[first], links=links)
    return tree


_tops = st.sampled_from([b"", b"", b"/a", b"/b/a", b"/new"])
steps = st.one_of(
    st.builds(Step, _tops, trees(), st.booleans()),
    st.builds(Step, _tops, trees(), st.booleans()),
    st.builds(Step, st.just(b"/none"), st.none(), pick=st.integers(0, 30)),
)


@dataclass(slots=True)
class Shown:
    """What some reader shows, in the form of the model."""

    nodes: Model = field(default_factory=dict)

    def agrees(self, model: Model) -> None:
        """Asserts that it is the model; where the model does not know a time, any will do."""
        assert self.nodes.keys() == model.keys()
        for path, node in model.items():
            shown = self.nodes[path]
            if node.mtime_ns is None:
                shown = replace(shown, mtime_ns=None)
            assert shown == node, path


def from_entries(entries: Iterator[Entry], read: Callable[[Entry], bytes]) -> Shown:
    """The form of the model of what the Python API shows."""
    listed = list(entries)
    groups: dict[tuple[bytes, int], set[bytes]] = {}
    for entry in listed:
        if entry.group:
            groups.setdefault((paths.parent(entry.path), entry.group), set()).add(entry.path)
    return Shown(
        {
            entry.path: Node(
                entry.kind,
                entry.mode,
                (entry.uid, entry.gid),
                entry.mtime_ns,
                read(entry) if entry.kind is Kind.FILE else b"",
                entry.target,
                entry.rdev,
                entry.xattrs,
                frozenset(groups.get((paths.parent(entry.path), entry.group), ())),
            )
            for entry in listed
        }
    )


def from_directory(top: bytes) -> Shown:
    """The form of the model of a directory of this machine; own extended attributes only."""
    found: Model = {}
    inodes: dict[int, set[bytes]] = {}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            real = directory + b"/" + name
            status = os.lstat(real)
            kind = Kind(stat.S_IFMT(status.st_mode))
            path = real[len(top) :]
            if kind is Kind.FILE:
                inodes.setdefault(status.st_ino, set()).add(path)
                with open(real, "rb") as file:  # noqa: PTH123
                    data = file.read()
                assert len(data) == status.st_size
            found[path] = Node(
                kind,
                stat.S_IMODE(status.st_mode),
                (status.st_uid, status.st_gid),
                status.st_mtime_ns,
                data if kind is Kind.FILE else b"",
                os.readlink(real)  # noqa: PTH115
                if kind is Kind.SYMLINK
                else b"",
                status.st_rdev,
                _xattrs(real) if kind is Kind.FILE else (),
                frozenset(str(status.st_ino).encode() for _ in range(status.st_nlink > 1))
                if kind is Kind.FILE
                else frozenset(),
            )
    for path, node in found.items():
        if node.links:
            (inode,) = node.links
            found[path] = replace(node, links=frozenset(inodes[int(inode)]))
    return Shown(found)


def _xattrs(path: bytes) -> Xattrs:
    return tuple((os.fsencode(name), os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
