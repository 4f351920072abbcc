"""``stratus log``: the revisions of a repository, the newest first."""

from __future__ import annotations

import argparse
import itertools

from stratus.cli.parsing import Verbs, add_json, add_public_key, add_verb, count
from stratus.cli.printing import moment, print_json


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "log", "show the revisions of a repository, the newest first", "stratus log software.example.org -n 10"
    )
    parser.add_argument("reference", metavar="NAME|URL")
    parser.add_argument("-n", "--number", metavar="N", type=count, help="at most so many")
    add_public_key(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository
    from stratus.cli.reference import Reference

    repository = open_repository(Reference.parse(arguments.reference).name, arguments.public_key)
    for entry in itertools.islice(repository.log(), arguments.number):
        if arguments.json:
            print_json(
                {
                    "revision": entry.revision,
                    "root": str(entry.root),
                    "time": entry.time.isoformat(),
                    "writer": entry.writer,
                    "message": entry.message,
                    "change_set": entry.change_set,
                    "tags": list(entry.tags),
                }
            )
            continue
        tags = f"  ({', '.join(entry.tags)})" if entry.tags else ""
        message = f"  {entry.message}" if entry.message else ""
        print(f"{entry.revision:>6}  {moment(entry.time)}  {entry.writer or '-'}{tags}{message}")
    return 0
