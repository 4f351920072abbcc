"""``stratus list``: the repositories that are configured."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_json, add_verb
from stratus.cli.printing import print_json, print_table


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(verbs, "list", "show the repositories that are configured", "stratus list")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus import config

    known = sorted(config.repositories().items())
    if arguments.json:
        for fqrn, repository in known:
            print_json({"name": fqrn, **repository._asdict()})
    elif known:
        print_table([(fqrn, repository.store or "-") for fqrn, repository in known])
    else:
        print(f"no repository is configured in {config.config_file()}")
    return 0
