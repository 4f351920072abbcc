"""``stratus receipt``: what became of a change set."""

from __future__ import annotations

import argparse
import time

from stratus.cli.parsing import Verbs, add_api, add_json, add_verb, add_wait
from stratus.errors import Busy, Rejected


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "receipt",
        "show what became of a change set",
        "stratus receipt software.example.org abcdefghijklmnopqrst --wait 60",
        "It exits with 3 while it waits, with 1 if it was rejected.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument(
        "change_set", metavar="ID", help="of the lease, and of the change set that is submitted under it"
    )
    add_wait(parser, "for the receipt")
    add_api(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_client
    from stratus.cli.receipts import print_receipt
    from stratus.formats.receipt import Receipt

    client = open_client(arguments.reference, arguments)
    until = time.monotonic() + arguments.wait
    while True:
        found = client.receipt(arguments.change_set, max(until - time.monotonic(), 0.0))
        if isinstance(found, Receipt):
            break
        if time.monotonic() >= until:
            what = "waits for a committer" if found.state == "queued" else "is being checked"
            raise Busy(f"the change set {arguments.change_set} {what}", hint="wait for its receipt with --wait")
    if found.error is not None and not arguments.json:
        error = found.error
        path = None if error.path is None else error.path.encode("utf-8", "surrogateescape")
        raise Rejected(error.message, reason=error.code, hint=error.hint, path=path)
    print_receipt(found, arguments.json)
    return 0 if found.error is None else Rejected.exit_code
