"""``stratus info``: what a repository is like."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stratus.cli.parsing import Verbs, add_json, add_public_key, add_verb
from stratus.cli.printing import bytes_, moment, plural, print_facts, print_json
from stratus.errors import StratusError

if TYPE_CHECKING:
    from stratus.repository.repository import Repository


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "info", "show what a repository is like", "stratus info https://host/cvmfs/software.example.org"
    )
    parser.add_argument("reference", metavar="NAME|URL")
    add_public_key(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import open_repository
    from stratus.cli.reference import Reference

    facts = _facts(open_repository(Reference.parse(arguments.reference).name, arguments.public_key))
    if arguments.json:
        print_json(facts)
        return 0
    counters, settings = facts["counters"], facts["settings"]
    entries = sum(counters[kind] for kind in ("regular", "dir", "symlink", "special"))
    shown = [
        ("repository", f"{facts['repository']} at {facts['url']}"),
        ("revision", f"{facts['revision']} of {facts['published']}"),
        ("root catalog", facts["root"]),
        ("hash", facts["hash"]),
        ("content", f"{plural(entries, 'entry', 'entries')}, {bytes_(counters['file_size'])} in files"),
        ("files", f"{counters['regular']:,}, {counters['chunked']:,} of them in pieces"),
        ("directories", f"{counters['dir']:,}"),
        ("symlinks", f"{counters['symlink']:,}"),
        ("nested catalogs", f"{counters['nested']:,}"),
        ("time to live", f"{facts['ttl']} s"),
        ("collectable", "yes" if facts["garbage_collectable"] else "no"),
        ("whitelist", f"until {facts['whitelist_expires']}"),
    ]
    if settings is not None:
        limits = "/".join(bytes_(settings[f"chunk_{limit}"]) for limit in ("minimum", "average", "maximum"))
        shown += [("compression", settings["compression"]), ("chunks", limits)]
    print_facts(shown)
    return 0


def _facts(repository: Repository) -> dict[str, Any]:
    from stratus.formats.counters import total
    from stratus.formats.whitelist import Whitelist

    manifest = repository.manifest
    whitelist = Whitelist.parse(repository.store.get(repository.layout.whitelist).data)
    with repository.at() as revision:
        root = revision.tree.root.catalog
        counters = total(root.own, root.below)
    return {
        "repository": repository.fqrn,
        "url": repository.url,
        "revision": manifest.revision,
        "published": f"{moment(datetime.fromtimestamp(manifest.timestamp, UTC))} UTC",
        "root": str(manifest.root),
        "root_size": manifest.root_size,
        "hash": manifest.root.algorithm.value,
        "ttl": manifest.ttl,
        "garbage_collectable": manifest.garbage_collectable,
        "whitelist_expires": f"{moment(whitelist.expires)} UTC",
        "counters": counters,
        "settings": _settings(repository),
    }


def _settings(repository: Repository) -> dict[str, Any] | None:
    """Only those who may read the private part see them."""
    from stratus.cli.settings import settings_to_json
    from stratus.repository import settings
    from stratus.stores import flows

    try:
        return settings_to_json(flows.run(settings.read(repository.layout), repository.store))
    except StratusError:
        return None
