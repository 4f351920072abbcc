"""``stratus umount``: takes a mount away."""

from __future__ import annotations

import argparse
from pathlib import Path

from stratus.cli.parsing import Verbs, add_verb
from stratus.errors import UsageError


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "umount",
        "take a mount away, a dead one too",
        "stratus umount /mnt/software",
        "What is open in it stays readable until it is closed.",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path)
    parser.add_argument("--stale", action="store_true", help="instead of DIR: all mounts whose process was killed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.client.mount import umount, umount_stale

    if arguments.stale == (arguments.directory is not None):
        raise UsageError("either DIR or --stale", hint="`findmnt -t fuse.stratus` lists all mounts")
    if arguments.stale:
        for directory in umount_stale():
            print(directory)
        return 0
    pid = umount(arguments.directory)
    if pid is not None:
        print(f"something is still open in it; process {pid} answers until that is closed")
    return 0
