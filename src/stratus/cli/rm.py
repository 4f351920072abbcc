"""``stratus rm``: removes a path from a repository."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_api, add_json, add_keys, add_verb, add_wait
from stratus.errors import UsageError


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "rm",
        "remove a file or a directory from a repository",
        "stratus rm -r software.example.org:/tool/1.1",
        "Older revisions keep it.",
    )
    parser.add_argument("reference", metavar="NAME:/path", help="what to remove")
    parser.add_argument("-r", "--recursive", action="store_true", help="a directory with all that is in it")
    parser.add_argument("--message", metavar="TEXT", default="", help="why, for the log")
    add_wait(parser)
    add_keys(parser)
    add_api(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_writer
    from stratus.cli.receipts import print_receipt
    from stratus.cli.reference import Reference
    from stratus.writers.publish import remove

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    if not reference.path:
        raise UsageError(
            "the root of a repository cannot be removed",
            hint="name a path (NAME:/path); `stratus destroy` removes a repository",
        )
    writer, fqrn = open_writer(reference.name, arguments)
    receipt = remove(writer, fqrn, reference.path, writer.name, arguments.recursive, arguments.message, arguments.wait)
    print_receipt(receipt, arguments.json)
    return 0
