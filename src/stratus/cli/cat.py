"""``stratus cat``: writes files of a repository to standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stratus.cli.parsing import REFERENCE, Verbs, add_public_key, add_verb
from stratus.cli.printing import text
from stratus.errors import StratusError

if TYPE_CHECKING:
    from stratus.formats.entries import Entry
    from stratus.repository.revision import Revision


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "cat", "write files of a repository to standard output", "stratus cat software.example.org:/tool/README"
    )
    parser.add_argument("references", metavar=REFERENCE, nargs="+", help="NAME may be a URL")
    add_public_key(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository, row_at
    from stratus.cli.reference import Reference

    for reference in [Reference.parse(given) for given in arguments.references]:
        with open_repository(reference.name, arguments.public_key).at(reference.revision) as revision:
            entry = row_at(revision, reference.path).entry
            for piece in _pieces(revision, entry):
                sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0


def _pieces(revision: Revision, entry: Entry) -> Iterator[bytes]:
    """The content of a file, chunk by chunk."""
    from stratus.cli.rows import KINDS
    from stratus.formats.entries import Kind

    if entry.kind is not Kind.FILE:
        hint = f"it leads to {text(entry.target)}" if entry.target else "only files have content"
        raise StratusError(f"{text(entry.path) or '/'} is a {KINDS[entry.kind]}", hint=hint, path=entry.path)
    chunks = entry.content.chunks if entry.content is not None else ()
    for chunk in chunks:
        yield revision.read(entry, chunk.offset, chunk.size)
    if not chunks:
        yield revision.read(entry)
