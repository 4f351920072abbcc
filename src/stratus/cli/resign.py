"""``stratus resign``: renews the whitelist."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_json, add_keys, add_verb, count
from stratus.cli.printing import moment, print_json


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "resign",
        "renew the whitelist, without which clients trust nothing",
        "stratus resign software.example.org",
        "Needs the master key.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument("--days", metavar="N", type=count, default=30, help="how long it is valid (default: 30)")
    add_keys(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_owned
    from stratus.cli.reference import Reference
    from stratus.upkeep.resign import resign

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    store, fqrn, keys = open_owned(reference.name, arguments.keys)
    whitelist = resign(store, fqrn, keys, arguments.days)
    if arguments.json:
        print_json({"repository": fqrn, "expires": whitelist.expires.isoformat()})
    else:
        print(f"the whitelist of {fqrn} is valid until {moment(whitelist.expires)} UTC")
    return 0
