"""``stratus key``: who may write, and where. Whoever may write to the store may say so."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratus.cli.parsing import Parser, Verbs, add_json, add_verb, natural, positive, size
from stratus.cli.printing import moment, print_json, print_table, text
from stratus.errors import UsageError
from stratus.formats import paths

if TYPE_CHECKING:
    from stratus.formats.key_record import KeyRecord, Quota
    from stratus.repository.layout import Layout
    from stratus.stores.contract import Store

_MOST_DAYS = 36_500


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "key",
        "make, list, rotate or revoke the keys of writers",
        "stratus key create software.example.org:/lhcb --writer lhcb-ci",
        "With a key one publishes below the paths that it is for, without access to the store.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))

    create = add_verb(
        actions,
        "create",
        "make a key for a writer",
        "stratus key create software.example.org:/lhcb --writer lhcb-ci --expires 365",
        "The private half is only in the file that is written; without a path the key is for the whole repository.",
    )
    create.add_argument("references", metavar="NAME[:/path]", nargs="+")
    create.add_argument("--writer", metavar="WHO", required=True, help="whose key it is; written into every revision")
    create.add_argument(
        "--gateway",
        metavar="NAME",
        help="a gateway key instead: a secret of this name that the functions know, too; or take over FILE.gw",
    )
    create.add_argument("--comment", metavar="TEXT", default="", help="shown by `stratus key list`")
    create.add_argument("--expires", metavar="DAYS", type=positive, help="when it ends (default: never)")
    add_quota(create)
    create.set_defaults(run=_create)

    show = add_verb(actions, "list", "show all keys, the oldest first", "stratus key list software.example.org")
    show.add_argument("reference", metavar="NAME")
    show.set_defaults(run=_list)

    rotate = add_verb(
        actions,
        "rotate",
        "put a new key in the place of another one",
        "stratus key rotate software.example.org abcdefghijklmnopqrst --overlap 1",
        "The new one is the same writer's, for the same paths and as long; the old one is revoked.",
    )
    rotate.add_argument("reference", metavar="NAME")
    rotate.add_argument("key", metavar="ID")
    rotate.add_argument("--overlap", metavar="DAYS", type=positive, help="how long the old one is still good")
    rotate.set_defaults(run=_rotate)

    revoke = add_verb(
        actions,
        "revoke",
        "let a key permit nothing any more, at once and for ever",
        "stratus key revoke software.example.org abcdefghijklmnopqrst",
    )
    revoke.add_argument("reference", metavar="NAME")
    revoke.add_argument("key", metavar="ID")
    revoke.set_defaults(run=_revoke)

    for action in (create, rotate):
        _add_out(action)
    for action in (create, show, rotate, revoke):
        add_json(action)


def add_quota(parser: Parser) -> None:
    """The options of a quota; without them the usual one."""
    parser.add_argument("--max-leases", metavar="N", type=natural, help="open at once (default: 500)")
    parser.add_argument("--max-bytes", metavar="SIZE", type=size, help="uploads granted in a day (default: no limit)")
    parser.add_argument("--max-objects", metavar="N", type=natural, help="the same, as a number of objects")
    parser.add_argument("--max-requests", metavar="N", type=natural, help="to the API in a minute (default: no limit)")


def quota_of(arguments: argparse.Namespace) -> Quota:
    """What ``add_quota`` asked for."""
    from stratus.formats.key_record import Quota

    if arguments.max_bytes == 0:
        raise UsageError(
            "--max-bytes 0 would let nothing be uploaded", hint="a key that is good for nothing is revoked"
        )
    usual = Quota()
    leases = arguments.max_leases or usual.leases
    return Quota(leases, arguments.max_bytes, arguments.max_objects, arguments.max_requests)


def _add_out(parser: Parser) -> None:
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="where to write the private key (default: beside the repository's keys)",
    )


def _create(arguments: argparse.Namespace) -> int:
    from stratus.leases.writer_keys import create
    from stratus.stores import flows

    lifetime = _days(arguments.expires)
    store, layout, grants, directory = open_owned_layout(arguments.references)
    key: str | bytes
    kept: contextlib.AbstractContextManager[None]
    if arguments.gateway and Path(arguments.gateway).suffix == ".gw":
        key, file = _taken_over(Path(arguments.gateway))
        kept = contextlib.nullcontext()
    else:
        key, file = (_secret if arguments.gateway else _pair)(layout.fqrn, directory, arguments)
        kept = _kept_if_all_is_well(file)
    with kept:
        made = create(layout, key, arguments.writer, grants, lifetime, arguments.comment, quota_of(arguments))
        record = flows.run(made, store)
    _note(store, layout, "key.create", record)
    _print_new(layout.fqrn, record, file, arguments.json)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from stratus.leases.writer_keys import list_all
    from stratus.stores import flows

    store, layout, _, _ = open_owned_layout([arguments.reference])
    found = flows.run(list_all(layout), store)
    if arguments.json:
        for record in found:
            print_json(_to_json(record))
    elif found:
        now = datetime.now(UTC)
        print_table(
            [
                (record.id, _state(record, now), _clean(record.writer), _clean(_grants(record)), _clean(record.comment))
                for record in found
            ]
        )
    else:
        print(f"{layout.fqrn} has no writers' keys; `stratus key create` makes one")
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    from stratus.leases.writer_keys import rotate
    from stratus.stores import flows

    overlap = _days(arguments.overlap) or timedelta(0)
    store, layout, _, directory = open_owned_layout([arguments.reference])
    key, file = _pair(layout.fqrn, directory, arguments)
    with _kept_if_all_is_well(file):
        new, old = flows.run(rotate(layout, arguments.key, key, overlap), store)
    _note(store, layout, "key.rotate", new)
    _note(store, layout, "key.end", old)
    _print_new(layout.fqrn, new, file, arguments.json, old)
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from stratus.leases.writer_keys import revoke
    from stratus.stores import flows

    store, layout, _, _ = open_owned_layout([arguments.reference])
    record = flows.run(revoke(layout, arguments.key), store)
    _note(store, layout, "key.revoke", record)
    if arguments.json:
        print_json(_to_json(record))
    else:
        print(f"the key {record.id} of {_clean(record.writer)} is revoked")
    return 0


def open_owned_layout(texts: Sequence[str]) -> tuple[Store, Layout, list[bytes], Path]:
    """Store and layout of the one repository that is named, the paths in it, and where its keys are kept."""
    from stratus import config
    from stratus.cli.places import newest_only, open_configured_store
    from stratus.cli.reference import Reference
    from stratus.repository.layout import Layout
    from stratus.repository.opening import locate

    references = [Reference.parse(text) for text in texts]
    for reference in references:
        newest_only(reference)
    if len({reference.name for reference in references}) > 1:
        raise UsageError("a key is for one repository", hint="make another one for each repository")
    fqrn, configured = locate(references[0].name)
    directory = Path(configured.keys).expanduser() if configured.keys else config.keys_directory()
    store = open_configured_store(fqrn, configured.store)
    return store, Layout(fqrn), [reference.path for reference in references], directory


def _pair(fqrn: str, directory: Path, arguments: argparse.Namespace) -> tuple[bytes, Path]:
    """The public half of a new pair, and the file that has the other: that is safe before anybody relies on it."""
    from stratus.trust.writer_keys import WriterKey

    key = WriterKey.generate()
    file = (arguments.out or directory / f"{fqrn}-{key.id}.pem").absolute()
    key.save(file)
    return key.public_key, file


def _secret(fqrn: str, directory: Path, arguments: argparse.Namespace) -> tuple[str, Path]:
    """The name of a new gateway key, and its file, by default where functions look that have their keys in files."""
    from stratus.trust.gateway_keys import GatewayKey

    key = GatewayKey.generate(arguments.gateway)
    file = (arguments.out or directory / f"{fqrn}-{key.name}.gw").absolute()
    key.save(file)
    return key.name, file


def _taken_over(file: Path) -> tuple[str, Path]:
    from stratus.trust.gateway_keys import GatewayKey

    return GatewayKey.load(file).name, file.absolute()


def _note(store: Store, layout: Layout, kind: str, record: KeyRecord) -> None:
    from stratus.cli.noting import note_change

    note_change(store, layout, kind, record.id, f"of {record.writer} for {_grants(record)}, {record.state}")


@contextlib.contextmanager
def _kept_if_all_is_well(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.unlink()
        raise


def _days(number: float | None) -> timedelta | None:
    if number is not None and number > _MOST_DAYS:
        raise UsageError(
            f"{number:g} days are too many", hint=f"at most {_MOST_DAYS}; a key without an end can be revoked"
        )
    return None if number is None else timedelta(days=number)


def _print_new(fqrn: str, record: KeyRecord, file: Path, as_json: bool, old: KeyRecord | None = None) -> None:
    if as_json:
        print_json({**_to_json(record), "file": str(file), **({} if old is None else {"replaces": _to_json(old)})})
        return
    until = "" if record.expires is None else f", until {moment(record.expires)} UTC"
    print(f"key {record.id} of {_clean(record.writer)} for {_clean(_grants(record))} of {fqrn}{until}")
    if old is not None:
        ends = "is revoked" if old.expires is None or old.state == "revoked" else f"ends {moment(old.expires)} UTC"
        print(f"the old key {old.id} {ends}")
    if record.kind == "gateway":
        print(f"\nThe secret is in {file}. The functions need it, too: as {fqrn}-{record.gateway}.gw")
        print(f"beside the repository's keys, or as the entry gateway/{record.gateway} of their secret provider.")
    else:
        print(f"\nThe private key is in {file} and nowhere else.")
    print("Its writer keeps it in a file that nobody else can read, and needs nothing else:")
    print(f"  stratus publish {fqrn}:/path SOURCE --api URL --writer-key FILE")
    print("or, in config.toml:")
    print(f'  [repositories."{fqrn}"]\n  api = "URL"\n  writer_key = "FILE"')


def _state(record: KeyRecord, now: datetime) -> str:
    if record.state == "revoked":
        return "revoked"
    if record.expires is None:
        return "active"
    return f"{'expired' if record.expires <= now else 'until'} {moment(record.expires)}"


def _grants(record: KeyRecord) -> str:
    return ", ".join(map(paths.display, record.paths))


def _clean(name: str) -> str:
    return text(name.encode("utf-8", "surrogateescape"))


def _to_json(record: KeyRecord) -> dict[str, Any]:
    import base64

    import msgspec

    return {
        "id": record.id,
        "writer": record.writer,
        "grants": [paths.display(path) for path in record.paths],
        "kind": record.kind,
        "state": record.state,
        "created": record.created.isoformat(),
        "expires": None if record.expires is None else record.expires.isoformat(),
        "comment": record.comment,
        "quota": msgspec.to_builtins(record.quota),
        "public_key": base64.b64encode(record.public_key).decode(),
        "gateway": record.gateway,
    }
