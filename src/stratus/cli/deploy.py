"""``stratus deploy``: descriptors for a runtime, with a repository's settings in them; and a look at what lives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stratus.cli.parsing import Verbs, add_json, add_verb, positive

if TYPE_CHECKING:
    from stratus.config import RepositoryConfig

_WAIT = 150.0  # seconds: events take moments; without any, tend finds the probe


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "deploy",
        "write what deploys the functions, or check what is deployed",
        "stratus deploy aws software.example.org --output aws",
        "local: one box. http: a container, for Knative, Cloud Run, OpenFaaS. aws: Lambda, S3, SQS, CloudFront.\n"
        "With --check: is what lives at the URL as it should be? Exit code 1 if anything is not.",
    )
    parser.add_argument("kind", metavar="KIND", choices=("local", "http", "aws"), help="local, http or aws")
    parser.add_argument("name", metavar="NAME", help="a repository; with --store, one that is not created yet")
    parser.add_argument("--store", metavar="URL", help="its store (default: from the configuration)")
    parser.add_argument("--url", metavar="URL", help="where writers find the API (default: from the configuration)")
    parser.add_argument("--image", metavar="IMAGE", help="with http: the image that the Dockerfile was built into")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to write (default: stratus-KIND)")
    parser.add_argument("--check", action="store_true", help="look at what is deployed, and write nothing")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=positive,
        default=_WAIT,
        help=f"with --check: how long an event may take (default: {_WAIT:g})",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    fqrn, configured = _located(arguments)
    store, url = arguments.store or configured.store, arguments.url or configured.api or ""
    return _check(fqrn, store, url, arguments) if arguments.check else _write(fqrn, store, url, arguments)


def _located(arguments: argparse.Namespace) -> tuple[str, RepositoryConfig]:
    """The name, and what is configured for it. Raises NoSuchRepository, BadName."""
    from stratus import config
    from stratus.formats.paths import check_fqrn
    from stratus.repository.opening import locate

    if arguments.store is None:
        return locate(arguments.name)
    known = config.repositories().get(arguments.name, config.RepositoryConfig())
    return check_fqrn(arguments.name), known


def _write(fqrn: str, store: str | None, url: str, arguments: argparse.Namespace) -> int:
    from stratus import config
    from stratus.cli.printing import print_json
    from stratus.errors import UsageError
    from stratus.runtimes.deploying import Target, render, write

    if store is None:
        raise UsageError(
            f"the configuration of {fqrn} names no store", hint=f"give --store, or add it to {config.config_file()}"
        )
    image = {} if arguments.image is None else {"image": arguments.image}
    files = render(arguments.kind, Target(fqrn, store, url.rstrip("/"), **image))
    directory = arguments.output or Path(f"stratus-{arguments.kind}")
    write(files, directory)
    if arguments.json:
        print_json({"repository": fqrn, "kind": arguments.kind, "files": [str(directory / name) for name in files]})
        return 0
    for name in files:
        print(directory / name)
    return 0


def _check(fqrn: str, store: str | None, url: str, arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_configured_store
    from stratus.cli.printing import print_json
    from stratus.errors import UsageError
    from stratus.runtimes.checking import check

    if not url:
        raise UsageError(f"nothing says where {fqrn} is deployed", hint="give --url")
    good = True
    opened = open_configured_store(fqrn, store)
    for finding in check(opened, fqrn, url, arguments.wait, notified=arguments.kind == "aws"):
        good = good and finding.good
        if arguments.json:
            print_json({"what": finding.what, "good": finding.good, "text": finding.text})
        else:
            print(f"{'ok ' if finding.good else 'BAD'}  {finding.what}: {finding.text}", flush=True)
    return 0 if good else 1
