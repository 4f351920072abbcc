"""``stratus check``: verifies a whole repository."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime

from stratus.cli.parsing import Verbs, add_json, add_public_key, add_verb
from stratus.cli.printing import bytes_, plural, print_json
from stratus.errors import Untrusted, UsageError


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "check",
        "verify a whole repository: signatures, catalogs, counters, history, objects",
        "stratus check https://host/cvmfs/software.example.org --public-key software.pub --data",
        "Exits with 4 if something is wrong.",
    )
    parser.add_argument("reference", metavar="NAME|URL[@REVISION|TAG|DATE]", help="default: the newest revision")
    parser.add_argument("--data", action="store_true", help="read every object too, not only ask whether it is there")
    add_public_key(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository
    from stratus.cli.reference import Reference
    from stratus.formats import paths
    from stratus.upkeep.check import check
    from stratus.upkeep.check_problems import LookedAt

    reference = Reference.parse(arguments.reference)
    if reference.path:
        raise UsageError("only whole repositories can be checked", hint="leave out what follows the colon")
    repository = open_repository(reference.name, arguments.public_key)
    which = reference.revision
    if isinstance(which, datetime):
        with repository.at(which) as revision:
            which = revision.number
    looked_at = LookedAt()
    found = {"error": 0, "warning": 0}
    for problem in check(
        repository.store,
        repository.fqrn,
        repository.public_keys,
        now=datetime.now(UTC),
        data=arguments.data,
        which=which,
        looked_at=looked_at,
    ):
        found[problem.severity] += 1
        if arguments.json:
            path = None if problem.path is None else paths.display(problem.path)
            print_json({"problem": {**asdict(problem), "path": path}})
        else:
            print(f"{problem.severity}: {problem.message} [{problem.code}]")
    if arguments.json:
        print_json({"repository": repository.fqrn, **found, "looked_at": asdict(looked_at)})
    else:
        print(
            f"{repository.fqrn}: {plural(found['error'], 'error')}, {plural(found['warning'], 'warning')} in "
            f"{plural(looked_at.catalogs, 'catalog')}, {plural(looked_at.rows, 'row')}, "
            f"{plural(looked_at.objects, 'object')}; {bytes_(looked_at.bytes)} were read"
        )
    return Untrusted.exit_code if found["error"] else 0
