"""``stratus tag``: names for revisions."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from stratus.cli.parsing import Parser, Verbs, add_api, add_json, add_keys, add_public_key, add_verb
from stratus.cli.printing import moment, print_json, print_table


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(verbs, "tag", "name revisions, and show the names", "stratus tag add software.example.org@17 v1")
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)

    add = add_verb(actions, "add", "name a revision", "stratus tag add software.example.org@17 v1 --message 'stable'")
    add.add_argument("reference", metavar="NAME[@REVISION|TAG|DATE]", help="what to name (default: the newest)")
    add.add_argument("tag", metavar="TAG")
    add.add_argument("--message", metavar="TEXT", default="", help="what it stands for")
    add.set_defaults(run=_add)

    remove = add_verb(actions, "remove", "forget a name", "stratus tag remove software.example.org v1")
    remove.add_argument("reference", metavar="NAME")
    remove.add_argument("tag", metavar="TAG")
    remove.set_defaults(run=_remove)

    show = add_verb(
        actions, "list", "show all names, the newest revision first", "stratus tag list software.example.org"
    )
    show.add_argument("reference", metavar="NAME|URL")
    add_public_key(show)
    show.set_defaults(run=_list)

    for action in (add, remove):
        add_keys(action)
        add_api(action)
    for action in (add, remove, show):
        add_json(action)


def _add(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository, open_writer
    from stratus.cli.receipts import print_receipt
    from stratus.cli.reference import Reference
    from stratus.formats.history import check_tag_name
    from stratus.writers.publish import tag

    name = check_tag_name(arguments.tag)
    reference = Reference.parse(arguments.reference)
    writer, fqrn = open_writer(reference.name, arguments)
    revision = reference.revision
    if isinstance(revision, str | datetime):
        public_key = None if arguments.keys is None else arguments.keys / f"{fqrn}.pub"
        with open_repository(reference.name, public_key).at(revision) as found:
            revision = found.number
    print_receipt(tag(writer, fqrn, name, revision, writer.name, arguments.message), arguments.json)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_writer
    from stratus.cli.receipts import print_receipt
    from stratus.cli.reference import Reference
    from stratus.writers.publish import untag

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    writer, fqrn = open_writer(reference.name, arguments)
    print_receipt(untag(writer, fqrn, arguments.tag, writer.name), arguments.json)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository
    from stratus.cli.reference import Reference

    tags = open_repository(Reference.parse(arguments.reference).name, arguments.public_key).tags()
    if arguments.json:
        for tag in tags:
            print_json(
                {
                    "name": tag.name,
                    "revision": tag.revision,
                    "root": str(tag.root),
                    "timestamp": tag.timestamp,
                    "description": tag.description,
                }
            )
        return 0
    rows = [
        (tag.name, str(tag.revision), moment(datetime.fromtimestamp(tag.timestamp, UTC)), tag.description)
        for tag in tags
    ]
    print_table(rows, right=frozenset({1}))
    return 0
