"""``stratus demo``: the whole way from an empty bucket to a program that runs from a mount, on this machine alone."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_verb


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "demo",
        "show it all: a local S3 server, two releases, a mount, a program that runs from it",
        "stratus demo",
        "Needs /dev/fuse, leaves nothing behind, takes less than two minutes.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    from stratus.cli.demonstration import demonstrate

    demonstrate()
    return 0
