"""``stratus cost``: what publishing took and cost."""

from __future__ import annotations

import argparse
from datetime import date
from typing import TYPE_CHECKING, Any

from stratus.cli.parsing import Verbs, add_json, add_verb
from stratus.cli.printing import bytes_, print_json, print_table, text

if TYPE_CHECKING:
    from stratus.costs.ledger import Sum


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "cost",
        "show what publishing took and cost",
        "stratus cost software.example.org --by day --since 2026-11-01",
        "Summed are the receipts of all change sets, also of those that were rejected, at the prices of their day.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument("--by", choices=("writer", "path", "day"), default="writer", help="default: writer")
    parser.add_argument("--since", metavar="DATE", type=_day, help="from this day (UTC) on, such as 2026-11-01")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_configured_store
    from stratus.cli.reference import Reference
    from stratus.costs.ledger import summed
    from stratus.costs.prices import AWS
    from stratus.repository.layout import Layout
    from stratus.repository.ledger import entries
    from stratus.repository.opening import locate
    from stratus.stores import flows

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    fqrn, configured = locate(reference.name)
    store = open_configured_store(fqrn, configured.store)
    found = flows.run(entries(Layout(fqrn), arguments.since), store)
    rows, totals = summed(found, arguments.by), summed(found)
    keeping = AWS.keep(sum(total.uploaded for total in totals))
    if arguments.json:
        print_json(
            {
                "repository": fqrn,
                "by": arguments.by,
                "since": None if arguments.since is None else arguments.since.isoformat(),
                "rows": [{arguments.by: row.key, **_to_json(row)} for row in rows],
                "totals": [_to_json(total) for total in totals],
                "month_of_storage": {"currency": keeping.currency, "amount": keeping.amount, "sheet": keeping.sheet},
            }
        )
        return 0
    if not found:
        print("nothing was published" + (f" since {arguments.since}" if arguments.since else ""))
        return 0
    head = (arguments.by, "change sets", "requests", "uploaded", "GB s", "calls", "cost")
    lines = [(text(row.key.encode("utf-8", "surrogateescape")), *_cells(row)) for row in rows]
    print_table([head, *lines, *(("all", *_cells(total)) for total in totals)], right=frozenset(range(1, 7)))
    print(f"\nprices: {', '.join(total.cost.sheet for total in totals)}")
    print(f"to keep what was uploaded costs {keeping.amount:.6f} {keeping.currency} a month ({keeping.sheet})")
    return 0


def _cells(row: Sum) -> tuple[str, ...]:
    return (
        f"{row.change_sets:,}",
        f"{row.requests.total:,}",
        bytes_(row.uploaded),
        f"{row.gb_seconds:,.1f}",
        f"{row.invocations:,}",
        f"{row.cost.amount:.6f} {row.cost.currency}",
    )


def _to_json(row: Sum) -> dict[str, Any]:
    import msgspec

    return {
        "change_sets": row.change_sets,
        "requests": msgspec.to_builtins(row.requests),
        "bytes": row.uploaded,
        "gb_seconds": row.gb_seconds,
        "invocations": row.invocations,
        "cost": msgspec.to_builtins(row.cost),
    }


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is no day; write it like 2026-11-01") from error
