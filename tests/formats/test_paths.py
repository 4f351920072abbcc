from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratus.errors import BadName
from stratus.formats import paths
from tests.formats.strategies import paths as any_paths


@pytest.mark.parametrize(
    ("path", "halves"),
    [
        (b"", (338333539836370388, 9098107892288553193)),
        (b"/foo", (5745132282796244766, -5819618580357280866)),
        (b"/foo/bar", (-2822516800166431715, 9048809318629099454)),
    ],
)
def test_path_hashes_are_signed_little_endian_halves(path: bytes, halves: tuple[int, int]) -> None:
    assert paths.md5_halves(path) == halves


@pytest.mark.parametrize("text", ["", "/", "//"])
def test_the_root_is_the_empty_path(text: str) -> None:
    assert paths.parse(text) == b""
    assert paths.display(b"") == "/"


@pytest.mark.parametrize("text", ["a/b", "/a/b", "/a//b/", b"a/b"])
def test_users_may_be_careless_about_slashes(text: str | bytes) -> None:
    assert paths.parse(text) == b"/a/b"


@pytest.mark.parametrize("text", [".", "a/..", "../a", "a/./b", "a\0b", "x" * 256])
def test_what_no_directory_can_hold_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        paths.parse(text)


@given(any_paths)
def test_a_path_survives_display_and_its_components(path: bytes) -> None:
    assert paths.parse(paths.display(path)) == path
    assert paths.join(paths.components(path)) == path


@given(any_paths.filter(bool))
def test_a_path_is_its_parent_and_its_name(path: bytes) -> None:
    assert paths.parent(path) + b"/" + paths.name(path) == path
    assert paths.ancestors(path)[0] == b""
    assert paths.ancestors(path)[-1] == paths.parent(path)
    assert all(paths.contains(top, path) and not paths.contains(path, top) for top in paths.ancestors(path))


def test_containment_goes_by_components() -> None:
    assert paths.contains(b"/a", b"/a/b")
    assert not paths.contains(b"/a", b"/ab")
    assert paths.parent(b"") == b""
    assert paths.ancestors(b"") == []


@given(st.lists(any_paths, unique=True))
def test_sorting_by_components_keeps_every_sub_tree_together(found: list[bytes]) -> None:
    order = sorted(found, key=paths.components)
    for top in order:
        inside = [paths.contains(top, path) for path in order]
        first = inside.index(True)
        assert inside == [False] * first + [True] * sum(inside) + [False] * (len(order) - first - sum(inside))


def test_repository_names_are_fully_qualified() -> None:
    assert paths.check_fqrn("sw-1.example.org") == "sw-1.example.org"
    for name in ("", "local", ".a.b", "a..b", "a.b/c", "a b.c", "a.b\n", "x" * 59 + ".y"):
        with pytest.raises(BadName):
            paths.check_fqrn(name)
