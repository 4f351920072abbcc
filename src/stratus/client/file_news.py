"""News of new revisions of a repository in a directory: the manifest's file is another one."""

from __future__ import annotations

from pathlib import Path

from stratus.client.following import Audience

_PAUSE = 0.2  # seconds


class FileNews:
    """Looks at the file's time and number, which costs one call of the system each time."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest

    def run(self, audience: Audience) -> None:
        known: tuple[int, ...] | None = None
        while True:
            found = self._mark()
            if found is not None and found != known:
                known = found
                audience.look()
            if audience.stopped(_PAUSE):
                return

    def _mark(self) -> tuple[int, ...] | None:
        try:
            found = self._manifest.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
