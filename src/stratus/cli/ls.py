"""``stratus ls``: lists a directory of a repository."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stratus.cli.parsing import REFERENCE, Verbs, add_json, add_public_key, add_verb
from stratus.cli.printing import print_json, print_table, text

if TYPE_CHECKING:
    from stratus.formats.entries import Row


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "ls", "list a directory of a repository", "stratus ls -l software.example.org@v1:/tool/1.2"
    )
    parser.add_argument("reference", metavar=REFERENCE, help="NAME may be a URL")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, links, owner, size and time (UTC)")
    add_public_key(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository, row_at
    from stratus.cli.reference import Reference
    from stratus.cli.rows import row_to_json
    from stratus.formats import paths
    from stratus.formats.entries import Kind

    reference = Reference.parse(arguments.reference)
    with open_repository(reference.name, arguments.public_key).at(reference.revision) as revision:
        top = row_at(revision, reference.path)
        if top.entry.kind is Kind.DIRECTORY:
            rows = [row for row in revision.tree.rows(reference.path) if not row.hidden]
        else:
            rows = [top]
        if arguments.json:
            for row in rows:
                print_json(row_to_json(row))
        elif arguments.long:
            print_table([_long(row) for row in rows], right=frozenset({1, 2, 3, 4}))
        else:
            for row in rows:
                print(text(paths.name(row.entry.path)))
    return 0


def _long(row: Row) -> tuple[str, ...]:
    import stat
    from datetime import UTC, datetime

    from stratus.formats import paths

    entry = row.entry
    time = datetime.fromtimestamp(entry.mtime_ns // 1_000_000_000, UTC)
    target = f" -> {text(entry.target)}" if entry.target else ""
    return (
        stat.filemode(entry.st_mode),
        str(row.links),
        str(entry.uid),
        str(entry.gid),
        str(entry.size),
        f"{time:%Y-%m-%d %H:%M}",
        text(paths.name(entry.path)) + target,
    )
