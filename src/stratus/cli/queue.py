"""``stratus queue``: the change sets that wait for a committer."""

from __future__ import annotations

import argparse

from stratus.cli.parsing import Verbs, add_api, add_json, add_verb
from stratus.cli.printing import moment, print_json, print_table, text


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "queue",
        "show what waits to be published, the oldest first",
        "stratus queue software.example.org",
        "It also says which process commits at the moment, if one does.",
    )
    parser.add_argument("reference", metavar="NAME")
    add_api(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_client

    client = open_client(arguments.reference, arguments)
    queue = client.queue()
    leases = {one.id: one for one in client.leases()} if queue.entries else {}
    if arguments.json:
        entries = []
        for entry in queue.entries:
            lease = leases.get(entry.id)
            known = {"path": lease.path, "writer": lease.writer, "host": lease.host} if lease is not None else {}
            entries.append({"id": entry.id, "since": entry.since.isoformat(), **known})
        print_json({"entries": entries, "committer": queue.committer})
        return 0
    rows = []
    for entry in queue.entries:
        lease = leases.get(entry.id)
        path = "" if lease is None else "(tags)" if lease.path is None else lease.path or "/"
        who = "" if lease is None else f"{lease.writer} on {lease.host}"
        rows.append((entry.id, f"since {moment(entry.since)}", _clean(path), _clean(who)))
    if rows:
        print_table(rows)
    else:
        print("nothing waits")
    print("nobody commits" if queue.committer is None else f"{_clean(queue.committer)} commits")
    return 0


def _clean(words: str) -> str:
    return text(words.encode("utf-8", "surrogateescape"))
