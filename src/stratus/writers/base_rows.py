"""What a base has, as rows of its catalogs: asked for by path, read from catalogs in the cheaper way."""

from __future__ import annotations

from typing import TypeAlias

from stratus.catalogs.tree import CatalogTree, Mounted
from stratus.formats import paths
from stratus.formats.rows import Values

_PER_QUESTION = 50  # rows of a catalog that are read in the time of a few questions
_MOST_HELD = 200_000  # rows, half a kilobyte each

_Listing: TypeAlias = dict[bytes, Values]


class _Asked:
    """A catalog: how often it was asked, and once that is often, all its rows by directory."""

    __slots__ = ("all", "left")

    def __init__(self, mounted: Mounted) -> None:
        count = len(mounted.catalog)
        self.left = count // _PER_QUESTION if count <= _MOST_HELD else -1
        self.all: dict[tuple[int, int], _Listing] | None = None


class BaseRows:
    """The values (``rows.VALUES``) of rows, hidden ones included; of a mountpoint those in the parent catalog."""

    def __init__(self, tree: CatalogTree) -> None:
        self._tree = tree
        self._asked: dict[bytes, _Asked] = {}

    def below(self, directory: bytes) -> _Listing:
        """The rows right below a directory by name; not to be changed."""
        mounted = self._tree.catalog_of(directory)
        everything = self._all(mounted)
        return mounted.values(directory) if everything is None else everything.get(mounted.key(directory), {})

    def at(self, path: bytes) -> Values | None:
        """The row at a path that is not the root; None if there is none."""
        directory = paths.parent(path)
        mounted = self._tree.catalog_of(directory)
        everything = self._all(mounted)
        if everything is None:
            return mounted.values_at(path)
        return everything.get(mounted.key(directory), {}).get(paths.name(path))

    def release(self, directory: bytes) -> None:
        """Nothing in the catalog that begins there is asked for any more, if there is one."""
        self._asked.pop(directory, None)
        self._tree.release(directory)

    def _all(self, mounted: Mounted) -> dict[tuple[int, int], _Listing] | None:
        asked = self._asked.get(mounted.path)
        if asked is None:
            asked = self._asked[mounted.path] = _Asked(mounted)
        if asked.left == 0:
            asked.all = mounted.catalog.all_values()
        asked.left -= 1
        return asked.all
