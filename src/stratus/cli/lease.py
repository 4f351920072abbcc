"""``stratus lease``: who may change what at the moment; and leases for scripts, which hold them themselves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stratus.cli.parsing import Parser, Verbs, add_api, add_json, add_verb, add_wait, count
from stratus.cli.printing import moment, print_json, print_table, text
from stratus.errors import UsageError

if TYPE_CHECKING:
    from stratus.formats.messages import ClaimInfo
    from stratus.writers.api_client import ApiClient, LeaseName

_TTL = 300  # seconds
_SHORTEST_TTL = 10


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "lease",
        "show, hold and end leases",
        "stratus lease list software.example.org",
        "Publishing takes its leases by itself; this is for looking, for scripts, and for what somebody left behind.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)

    acquire = add_verb(
        actions,
        "acquire",
        "lease a path, so that nobody else changes it",
        "stratus lease acquire software.example.org:/lhcb --ttl 600 --wait 60",
        "Prints the id and the token, which nobody else has. Nothing renews the lease: it ends by itself.",
    )
    acquire.add_argument("reference", metavar="NAME:/path")
    acquire.add_argument("--ttl", metavar="SECONDS", type=count, default=_TTL, help=f"how long (default: {_TTL})")
    add_wait(acquire)
    acquire.set_defaults(run=_acquire)

    release = add_verb(
        actions,
        "release",
        "give a lease up",
        "stratus lease release software.example.org abcdefghijklmnopqrst --token TOKEN",
    )
    release.add_argument("reference", metavar="NAME")
    release.add_argument("lease", metavar="ID")
    release.add_argument("--token", metavar="TOKEN", help="what `stratus lease acquire` printed; the API wants it")
    release.set_defaults(run=_release)

    show = add_verb(actions, "list", "show all leases", "stratus lease list software.example.org")
    show.add_argument("reference", metavar="NAME")
    show.set_defaults(run=_list)

    break_ = add_verb(
        actions,
        "break",
        "end somebody's lease",
        "stratus lease break software.example.org abcdefghijklmnopqrst",
        "Its holder cannot publish under it any more. What is submitted already is published all the same.",
    )
    break_.add_argument("reference", metavar="NAME")
    break_.add_argument("lease", metavar="ID")
    break_.set_defaults(run=_break)

    for action in (acquire, release, show, break_):
        add_api(action)
    for action in (acquire, show):
        add_json(action)


def _acquire(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_client
    from stratus.cli.reference import Reference
    from stratus.formats.claim import LONGEST_TTL
    from stratus.writers.api_client import ApiClient

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    if not _SHORTEST_TTL <= arguments.ttl <= LONGEST_TTL:
        raise UsageError(
            f"a lease lasts from {_SHORTEST_TTL} to {LONGEST_TTL} s", hint="acquire another one when it ends"
        )
    client = open_client(reference.name, arguments)
    if isinstance(client, ApiClient):
        found, token = _acquire_there(client, reference.path, arguments.ttl, arguments.wait)
    else:
        found, token = client.lease(reference.path, arguments.ttl, arguments.wait)
    if arguments.json:
        print_json({**_to_json(found), "token": token})
    else:
        print(f"{found.id} {token}")
    return 0


def _acquire_there(client: ApiClient, path: bytes, ttl: int, wait: float) -> tuple[ClaimInfo, str]:
    import socket
    from datetime import UTC, datetime

    from stratus.formats.messages import ClaimInfo, LeaseRequest

    host = socket.gethostname()
    # Without the mark of this process, which ends at once and would leave the lease to the next one who asks.
    granted = client.acquire(LeaseRequest(path=path.decode("utf-8", "surrogateescape"), ttl=ttl, host=host), wait)
    found = ClaimInfo(
        id=granted.id,
        path=granted.path,
        writer=granted.writer,
        host=host,
        state="open",
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        ttl=granted.ttl,
        expires=granted.expires,
    )
    return found, granted.token


def _release(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_client
    from stratus.writers.api_client import ApiClient

    client = open_client(arguments.reference, arguments)
    if isinstance(client, ApiClient):
        if arguments.token is None:
            raise UsageError(
                "the API wants the lease's token", hint="give it with --token; `stratus lease break` goes without"
            )
        client.release(_named(client, arguments.lease), arguments.token)
    else:
        client.release(arguments.lease)
    return 0


def _break(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_client
    from stratus.writers.api_client import ApiClient

    client = open_client(arguments.reference, arguments)
    if isinstance(client, ApiClient):
        client.break_(_named(client, arguments.lease))
    else:
        client.break_(arguments.lease)
    return 0


def _named(client: ApiClient, lease: str) -> LeaseName:
    """Raises UsageError for one that is not there."""
    from stratus.writers.api_client import LeaseName

    for found in client.leases():
        if found.id == lease:
            return LeaseName(lease, _path(found))
    raise UsageError(f"there is no lease {lease}", hint="`stratus lease list` shows those there are")


def _list(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_client

    leases = open_client(arguments.reference, arguments).leases()
    if arguments.json:
        for one in leases:
            print_json(_to_json(one))
    elif leases:
        print_table([_row(one) for one in leases])
    else:
        print("nothing is leased")
    return 0


def _row(one: ClaimInfo) -> tuple[str, str, str, str]:
    path = _path(one)
    where = "(tags)" if path is None else text(path) or "/"
    until = "is being published" if one.expires is None else f"until {moment(one.expires)}"
    return one.id, where, until, text(f"{one.writer} on {one.host}".encode("utf-8", "surrogateescape"))


def _path(one: ClaimInfo) -> bytes | None:
    return None if one.path is None else one.path.encode("utf-8", "surrogateescape")


def _to_json(one: ClaimInfo) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(one)
    return found
