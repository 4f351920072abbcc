"""``stratus audit``: who asked for what, from where, and what came of it."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

from stratus.cli.parsing import Verbs, add_json, add_verb, positive
from stratus.cli.printing import moment, print_json, print_table, text

if TYPE_CHECKING:
    from stratus.formats.audit import AuditEntry

_DAYS = 1.0


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "audit",
        "show who changed what, and who was refused",
        "stratus audit software.example.org --since 7 --refused",
        "What was asked of the API, and what the owner changed. `stratus settings` says what is written down.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument(
        "--since", metavar="DAYS", type=positive, default=_DAYS, help=f"how far back (default: {_DAYS:g})"
    )
    parser.add_argument("--writer", metavar="WHO", help="only what this writer did")
    parser.add_argument("--refused", action="store_true", help="only what was refused, or failed")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_configured_store
    from stratus.cli.reference import Reference
    from stratus.functions.auditing import read
    from stratus.repository.layout import Layout
    from stratus.repository.opening import locate
    from stratus.stores import flows

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    fqrn, configured = locate(reference.name)
    store = open_configured_store(fqrn, configured.store)
    since = store.now() - timedelta(days=arguments.since)
    found = [
        entry
        for entry in flows.run(read(Layout(fqrn), since), store)
        if arguments.writer in (None, entry.writer) and (entry.outcome != "done" or not arguments.refused)
    ]
    if arguments.json:
        import msgspec

        for entry in found:
            print_json({**msgspec.to_builtins(entry), "outcome": entry.outcome})
    elif found:
        print_table([_row(entry) for entry in found])
    else:
        print(f"the audit trail of {fqrn} has nothing of that in this time")
    return 0


def _row(entry: AuditEntry) -> tuple[str, ...]:
    outcome = entry.outcome if entry.outcome == "done" else f"{entry.outcome} {entry.code} ({entry.status})"
    if entry.others:
        outcome += f", and {entry.others} more"
    # A lease id tells which change set it was; a path says more to people.
    where = entry.id if entry.path is None else f"{entry.path or '/'} {entry.id}"
    cells = (outcome, entry.writer or "?", entry.proof or "?", entry.host or "?", where, entry.detail)
    return (moment(entry.time), entry.kind, *(text(cell.encode("utf-8", "surrogateescape")) for cell in cells))
