"""Where functions get the keys of repositories from; never from the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stratus.errors import NotPermitted
from stratus.trust.keys import RepositoryKeys

_SUFFIXES = (".key", ".crt", ".pub", ".masterkey")


class FileSecrets:
    """Keys in files of this machine, in a directory for each repository; read again when the files have changed."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        self._directories = directories
        self._loaded: dict[str, tuple[tuple[int, ...], RepositoryKeys]] = {}

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        """Raises NotPermitted where there are none or they cannot be read, BadFormat where they do not fit."""
        directory = self._directories.get(fqrn)
        if directory is None:
            raise NotPermitted(f"no keys of {fqrn} are here", hint="whoever runs the functions configures them")
        state = tuple(_changed(directory / f"{fqrn}{suffix}") for suffix in _SUFFIXES)
        known = self._loaded.get(fqrn)
        if known is None or known[0] != state:
            known = self._loaded[fqrn] = state, RepositoryKeys.load(directory, fqrn)
        return known[1]


def _changed(file: Path) -> int:
    """When a file has changed last, in ns; 0 if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
