"""``stratus umount``: takes a mount away."""

from __future__ import annotations

import argparse
from pathlib import Path

from stratus.cli.parsing import Verbs, add_verb


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "umount",
        "take a mount away, a dead one too",
        "stratus umount /mnt/software",
        "What is open in it stays readable until it is closed.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.client.mount import umount

    umount(arguments.directory)
    return 0
