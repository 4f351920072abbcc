"""``stratus publish``: what is in archives and directories lands in a repository."""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from typing import TYPE_CHECKING

from stratus.cli.parsing import Verbs, add_api, add_json, add_keys, add_verb, add_wait, count, owner

if TYPE_CHECKING:
    from stratus.cli.reference import Reference
    from stratus.ingest.crew import Processes


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "publish",
        "publish archives or directories",
        "stratus publish software.example.org:/tool/1.2 tool-1.2.tar.gz --tag tool-1.2",
        "What is in the sources lands at the path, merged into what is there.",
    )
    parser.add_argument("reference", metavar="NAME[:/path]", help="where to publish")
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="a directory, an archive, or - for standard input")
    parser.add_argument("--replace", action="store_true", help="make the path equal to the sources")
    parser.add_argument("--message", metavar="TEXT", default="", help="why, for the log")
    parser.add_argument("--tag", metavar="TAG", help="name the new revision")
    parser.add_argument("--owner", metavar="U:G", type=owner, help="user and group of everything that is published")
    parser.add_argument(
        "--strip-components", metavar="N", type=count, default=0, help="leading components that names lose"
    )
    parser.add_argument("--catalog", action="store_true", help="make the path a nested catalog")
    parser.add_argument("--xattrs", action="store_true", help="publish extended attributes too")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change, and what it would cost")
    parser.add_argument(
        "--workers", metavar="N", type=count, help="processes that pack and upload (default: one per processor)"
    )
    parser.add_argument("--quiet", action="store_true", help="do not say how far it is")
    add_wait(parser)
    add_keys(parser)
    add_api(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only
    from stratus.cli.reference import Reference
    from stratus.ingest.crew import start_ahead

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    with contextlib.ExitStack() as stack:
        ahead = start_ahead(arguments.sources, arguments.workers)
        if ahead is not None:
            stack.callback(ahead.close)
        return _publish(arguments, reference, arguments.workers if ahead is None else ahead)


def _publish(arguments: argparse.Namespace, reference: Reference, workers: int | Processes | None) -> int:
    from stratus.cli.places import open_writer
    from stratus.cli.progress import Drawn
    from stratus.cli.receipts import print_forecast, print_receipt
    from stratus.formats.history import check_tag_name
    from stratus.ingest.sources import open_source
    from stratus.writers.publish import Options, forecast, publish

    quiet = arguments.quiet or arguments.json
    options = Options(
        replace=arguments.replace,
        catalog=arguments.catalog,
        owner=arguments.owner,
        strip_components=arguments.strip_components,
        xattrs=arguments.xattrs,
        message=arguments.message,
        tag=None if arguments.tag is None else check_tag_name(arguments.tag),
        workers=workers,
        progress=None if quiet else Drawn(sys.stderr),
        wait=arguments.wait,
    )
    sources = [open_source(source) for source in arguments.sources]
    writer, fqrn = open_writer(reference.name, arguments)
    gc.disable()  # nearly all that is made is kept to the end: looking for cycles in it takes a sixth of the time
    try:
        if arguments.dry_run:
            print_forecast(forecast(writer, fqrn, reference.path, sources, writer.name, options), arguments.json)
        else:
            print_receipt(publish(writer, fqrn, reference.path, sources, writer.name, options), arguments.json)
    finally:
        gc.freeze()  # and back: to the oldest generation, or all that was made is looked through at once
        gc.unfreeze()
        gc.enable()
    return 0
