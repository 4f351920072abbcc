"""From what a user names to a source."""

from __future__ import annotations

from pathlib import Path

from stratus.errors import BadSource
from stratus.ingest.contract import Source
from stratus.ingest.directories import Directory


def open_source(name: str | Path) -> Source:
    """The source called ``name``: a directory, an archive, or ``-`` for an archive on standard input.

    An archive is told by its content when it is read, not by its name. Raises BadSource if there is nothing.
    """
    if str(name) == "-":
        return _archive(None)
    file = Path(name)
    try:
        file.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSource(
            f"{str(name)!r} cannot be read: {reason}", hint="name a directory, an archive, or - for standard input"
        ) from error
    return Directory(file) if file.is_dir() else _archive(file)


def _archive(file: Path | None) -> Source:
    from stratus.ingest.archives import Archive  # what unpacks them takes a while to import

    return Archive(file)
