"""Files that are read: whether one is still the same, and what is raised if it is not, or cannot be read."""

from __future__ import annotations

import os

from stratus.errors import BadSource
from stratus.formats import paths
from stratus.ingest.contract import File


def identify(descriptor: int) -> tuple[int, int, int, int]:
    """Device, inode, size and time of the last change of an open file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def changed(file: File) -> BadSource:
    """The error for a file that is not any more what it was when the source was scanned."""
    return BadSource(
        f"{paths.display(file.path)} changed while it was read", hint="publish again when nobody writes to it any more"
    )


def unreadable(file: bytes | str, error: OSError) -> BadSource:
    """The error for a file that cannot be read."""
    return BadSource(
        f"{paths.display(os.fsencode(file))} cannot be read: {error.strerror or error}",
        hint="make everything readable for the user who publishes, or leave it out",
    )
