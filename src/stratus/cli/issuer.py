"""``stratus issuer``: whose tokens let writers in, and where. Whoever may write to the store may say so."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stratus.cli.key import add_quota, open_owned_layout, quota_of
from stratus.cli.parsing import Verbs, add_json, add_verb
from stratus.cli.printing import print_json, print_table, text
from stratus.errors import UsageError
from stratus.formats import paths

if TYPE_CHECKING:
    from stratus.formats.issuer_record import IssuerRecord, Rule

_PROFILES = ("oidc", "wlcg", "scitokens")


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "issuer",
        "say whose tokens let writers in, and where",
        "stratus issuer list software.example.org",
        "With a token of such an issuer, as CI jobs and grid users have one, one publishes without a key.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))

    add = add_verb(
        actions,
        "add",
        "let in bearers of some tokens",
        "stratus issuer add software.example.org:/lhcb --issuer https://gitlab.example.org\\\n"
        "    --audience software.example.org --claim project_path=lhcb/* --claim ref_protected=true\\\n"
        "    --writer '{project_path}@gitlab'",
        "The first rule of an issuer that fits a token counts.",
    )
    add.add_argument("references", metavar="NAME[:/path]", nargs="+")
    add.add_argument("--issuer", metavar="URL", required=True, help="exactly as it is in tokens as `iss`")
    add.add_argument(
        "--audience", metavar="TEXT", action="append", default=[], help="whom tokens must be for; several: one of them"
    )
    add.add_argument(
        "--claim",
        metavar="NAME=TEXT",
        action="append",
        default=[],
        help="what tokens must say; * stands for any characters, / too; several: all of them",
    )
    add.add_argument(
        "--writer",
        metavar="WHO",
        help="the writer's name, {NAME} stands for a claim (default: {sub}@ and the issuer's host)",
    )
    add.add_argument(
        "--profile",
        choices=_PROFILES,
        default="oidc",
        help="wlcg and scitokens: scopes like storage.modify:/path narrow the paths (default: oidc)",
    )
    add.add_argument(
        "--jwks-uri", metavar="URL", default="", help="where its keys are (default: as its configuration says)"
    )
    add_quota(add)
    add.set_defaults(run=_add)

    show = add_verb(actions, "list", "show all issuers and rules", "stratus issuer list software.example.org")
    show.add_argument("reference", metavar="NAME")
    show.set_defaults(run=_list)

    remove = add_verb(
        actions,
        "remove",
        "let nobody in any more by an issuer, or one rule of it, at once",
        "stratus issuer remove software.example.org https://gitlab.example.org",
    )
    remove.add_argument("reference", metavar="NAME")
    remove.add_argument("issuer", metavar="URL")
    remove.add_argument("--rule", metavar="ID", help="only this rule")
    remove.set_defaults(run=_remove)

    for action in (add, show, remove):
        add_json(action)


def _add(arguments: argparse.Namespace) -> int:
    from stratus.cli.noting import note_change
    from stratus.formats.issuer_record import Rule
    from stratus.leases.token_issuers import add
    from stratus.stores import flows
    from stratus.trust.fetching import is_safe

    for url in filter(None, (arguments.issuer if not arguments.jwks_uri else "", arguments.jwks_uri)):
        if not is_safe(url):
            raise UsageError(f"{url} is not https", hint="its keys could be changed on the way; give --jwks-uri")
    claims = dict(map(_claim, arguments.claim))
    writer = arguments.writer or "{sub}@" + (urlsplit(arguments.issuer).hostname or arguments.issuer)
    store, layout, grants, _ = open_owned_layout(arguments.references)
    rule = Rule.new(arguments.issuer, claims, grants, writer, quota_of(arguments))
    made = add(layout, arguments.issuer, arguments.audience, arguments.jwks_uri, arguments.profile, rule)
    record = flows.run(made, store)
    note_change(store, layout, "issuer.add", rule.id, f"{record.issuer}: {_claims(rule)} for {_grants(rule)}")
    if arguments.json:
        print_json(_to_json(record))
    else:
        print(f"rule {rule.id}: tokens of {_clean(record.issuer)} with {_clean(_claims(rule))}")
        print(f"let in {_clean(rule.writer)} for {_clean(_grants(rule))} of {layout.fqrn}")
    return 0


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise UsageError(f"{text!r} says nothing of a claim", hint="write NAME=TEXT")
    return name, value


def _list(arguments: argparse.Namespace) -> int:
    from stratus.leases.token_issuers import list_all
    from stratus.stores import flows

    store, layout, _, _ = open_owned_layout([arguments.reference])
    found = flows.run(list_all(layout), store)
    if arguments.json:
        for record in found:
            print_json(_to_json(record))
    elif found:
        rows = [
            (record.issuer, record.profile, rule.id, rule.writer, _grants(rule), _claims(rule))
            for record in found
            for rule in record.rules
        ]
        print_table([tuple(map(_clean, row)) for row in rows])
    else:
        print(f"{layout.fqrn} believes no tokens; `stratus issuer add` says whose it shall")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from stratus.cli.noting import note_change
    from stratus.leases.token_issuers import remove
    from stratus.stores import flows

    store, layout, _, _ = open_owned_layout([arguments.reference])
    record = flows.run(remove(layout, arguments.issuer, arguments.rule), store)
    note_change(store, layout, "issuer.remove", arguments.rule or record.id, record.issuer)
    if arguments.json:
        print_json(_to_json(record))
    else:
        what = "no token" if not record.rules else f"no token by the rule {arguments.rule}"
        print(f"{what} of {_clean(record.issuer)} lets anybody in any more")
    return 0


def _grants(rule: Rule) -> str:
    return ", ".join(map(paths.display, rule.paths))


def _claims(rule: Rule) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(rule.claims.items())) or "any claims"


def _clean(name: str) -> str:
    return text(name.encode("utf-8", "surrogateescape"))


def _to_json(record: IssuerRecord) -> dict[str, Any]:
    import msgspec

    return {
        "issuer": record.issuer,
        "audiences": record.audiences,
        "profile": record.profile,
        "jwks_uri": record.jwks_uri,
        "rules": [
            {**msgspec.to_builtins(rule), "grants": [paths.display(path) for path in rule.paths]}
            for rule in record.rules
        ],
    }
