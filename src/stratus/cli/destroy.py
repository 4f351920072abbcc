"""``stratus destroy``: removes a repository and everything in it."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_json, add_verb
from stratus.cli.printing import plural, print_json
from stratus.errors import UsageError


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "destroy",
        "remove a repository and everything in it",
        "stratus destroy software.example.org --yes",
        "Its keys stay.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument("--yes", action="store_true", help="it shall really be removed")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus import config
    from stratus.cli.places import newest_only, open_configured_store
    from stratus.cli.reference import Reference
    from stratus.repository.opening import locate
    from stratus.repository.removal import destroy

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    if reference.path:
        raise UsageError("only whole repositories can be destroyed", hint="`stratus rm` removes a path")
    fqrn, configured = locate(reference.name)
    store = open_configured_store(fqrn, configured.store)
    if not arguments.yes:
        raise UsageError(f"{fqrn} in {store.url} would be gone for ever", hint="if that is wanted, add --yes")
    removed = destroy(store, fqrn)
    config.forget(fqrn)
    if arguments.json:
        print_json({"repository": fqrn, "removed": removed})
    else:
        print(f"{fqrn} is gone: {plural(removed, 'key')} removed from {store.url}; its signing keys stay")
    return 0
