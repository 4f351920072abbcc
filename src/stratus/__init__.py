"""Stratus: a serverless CernVM-FS.

::

    import stratus

    repository = stratus.open("software.example.org")
    with repository.at("v1") as revision:
        for entry in revision.list(b"/bin"):
            print(entry.path, entry.size)

Everything is imported when it is first used, so that ``import stratus`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratus._version import __version__
    from stratus.catalogs.compare import Difference
    from stratus.errors import StratusError
    from stratus.formats.entries import Chunk, Content, Entry, Kind
    from stratus.formats.receipt import Receipt
    from stratus.formats.records import Settings
    from stratus.repository.creation import create
    from stratus.repository.opening import open  # noqa: A004
    from stratus.repository.repository import Repository
    from stratus.repository.revision import Revision
    from stratus.stores.opening import open_store

_HOMES = {
    "__version__": "stratus._version",
    "Chunk": "stratus.formats.entries",
    "Content": "stratus.formats.entries",
    "Difference": "stratus.catalogs.compare",
    "Entry": "stratus.formats.entries",
    "Kind": "stratus.formats.entries",
    "Receipt": "stratus.formats.receipt",
    "Repository": "stratus.repository.repository",
    "Revision": "stratus.repository.revision",
    "Settings": "stratus.formats.records",
    "StratusError": "stratus.errors",
    "create": "stratus.repository.creation",
    "open": "stratus.repository.opening",
    "open_store": "stratus.stores.opening",
}

__all__ = [
    "Chunk",
    "Content",
    "Difference",
    "Entry",
    "Kind",
    "Receipt",
    "Repository",
    "Revision",
    "Settings",
    "StratusError",
    "__version__",
    "create",
    "open",
    "open_store",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stratus' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
