"""``stratus stat``: all that a repository says about one path."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stratus.cli.parsing import REFERENCE, Verbs, add_json, add_public_key, add_verb
from stratus.cli.printing import plural, print_facts, print_json, text

if TYPE_CHECKING:
    from stratus.formats.entries import Row


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "stat", "show all that is known of a path", "stratus stat software.example.org:/tool/1.2/bin/tool"
    )
    parser.add_argument("reference", metavar=REFERENCE, help="NAME may be a URL")
    add_public_key(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository, row_at
    from stratus.cli.reference import Reference
    from stratus.cli.rows import row_to_json

    reference = Reference.parse(arguments.reference)
    with open_repository(reference.name, arguments.public_key).at(reference.revision) as revision:
        row = row_at(revision, reference.path)
        catalog = revision.tree.catalog_of(reference.path).path
        if arguments.json:
            print_json({"revision": revision.number, "catalog": catalog.decode("utf-8", "surrogateescape") or "/"})
            print_json(row_to_json(row))
        else:
            print_facts(_facts(row, catalog, revision.number))
    return 0


def _facts(row: Row, catalog: bytes, revision: int) -> Iterator[tuple[str, str]]:
    import os
    import stat
    from datetime import UTC, datetime

    from stratus.cli.rows import KINDS

    entry = row.entry
    yield "path", text(entry.path) or "/"
    yield "kind", KINDS[entry.kind]
    if entry.target:
        yield "target", text(entry.target)
    if entry.rdev:
        yield "device", f"{os.major(entry.rdev)}:{os.minor(entry.rdev)}"
    yield "mode", f"{entry.mode:04o} {stat.filemode(entry.st_mode)}"
    yield "owner", f"{entry.uid}:{entry.gid}"
    yield "links", str(row.links)
    yield "size", plural(entry.size, "byte")
    whole, rest = divmod(entry.mtime_ns, 1_000_000_000)
    yield "changed", f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}.{rest:09} UTC"
    for name, value in entry.xattrs:
        yield "xattr", f"{text(name)}={text(value)}"
    content = entry.content
    if content is not None:
        if content.digest is not None:
            yield "object", str(content.digest)
        yield "stored", content.compression.name.lower() + (", outside of the store" if content.external else "")
        for chunk in content.chunks:
            yield "chunk", f"{chunk.digest}  {plural(chunk.size, 'byte')} from {chunk.offset}"
    yield "catalog", text(catalog) or "/"
    yield "revision", str(revision)
