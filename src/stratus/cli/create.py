"""``stratus create``: an empty repository, its keys, and what clients need to read it."""

from __future__ import annotations

import argparse
from pathlib import Path

from stratus.cli.parsing import Verbs, add_json, add_verb, count, size
from stratus.cli.printing import print_json


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "create",
        "create an empty repository",
        "stratus create software.example.org s3://bucket",
        "S3 credentials are found as AWS tools find them.",
    )
    parser.add_argument("name", metavar="NAME", help="fully qualified, such as software.example.org")
    parser.add_argument(
        "store", metavar="STORE", help="s3://bucket[/prefix][?endpoint=URL&region=NAME], file:///directory, or a path"
    )
    parser.add_argument("--hash", choices=("sha1", "rmd160", "shake128"), help="of object names (default: sha1)")
    parser.add_argument(
        "--compression",
        choices=("fast", "upstream", "none"),
        help="of objects: fast (default), upstream (zlib, the stock tools' names)",
    )
    for limit, default in (("min", "4M"), ("avg", "8M"), ("max", "16M")):
        parser.add_argument(
            f"--chunk-{limit}", metavar="SIZE", type=size, help=f"of the pieces of large files (default: {default})"
        )
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=count, help="how long clients go without looking for a new revision (240)"
    )
    parser.add_argument("--no-gc", action="store_true", help="old revisions must never be collected")
    parser.add_argument("--keys", metavar="DIR", type=Path, help="where keys are kept; keys that are there are used")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus import config
    from stratus.cli.client_configuration import client_configuration, server_url
    from stratus.formats.paths import check_fqrn
    from stratus.formats.records import Settings
    from stratus.repository.creation import create
    from stratus.stores.opening import open_store
    from stratus.trust.keys import RepositoryKeys

    fqrn = check_fqrn(arguments.name)
    given = {
        "hash": arguments.hash,
        "compression": arguments.compression,
        "chunk_minimum": arguments.chunk_min,
        "chunk_average": arguments.chunk_avg,
        "chunk_maximum": arguments.chunk_max,
        "ttl": arguments.ttl,
    }
    settings = Settings(
        garbage_collectable=not arguments.no_gc, **{name: value for name, value in given.items() if value is not None}
    )
    settings.check()
    store = open_store(arguments.store)
    directory = (arguments.keys or config.keys_directory()).absolute()
    reused = (directory / f"{fqrn}.crt").exists()
    if reused:
        keys = RepositoryKeys.load(directory, fqrn)
    else:
        keys = RepositoryKeys.generate(fqrn)
        keys.save(directory)
    created = create(store, fqrn, keys, settings)
    file = config.remember(fqrn, config.RepositoryConfig(store=store.url, keys=str(directory)))

    public_key = directory / f"{fqrn}.pub"
    if arguments.json:
        print_json(
            {
                "repository": fqrn,
                "store": store.url,
                "revision": created.manifest.revision,
                "server_url": server_url(store),
                "public_key": str(public_key),
                "master_key": str(directory / f"{fqrn}.masterkey"),
                "config": str(file),
                "policy": created.policy,
            }
        )
        return 0
    print(f"created {fqrn} in {store.url}, revision {created.manifest.revision}; configured in {file}")
    print(f"{'used' if reused else 'wrote'} the keys in {directory}\n")
    if created.policy is not None:
        print("We may not set the bucket's policy. Before anybody can read, an administrator has to set this one:")
        print(f"{created.policy}\n")
    print(client_configuration(fqrn, store, public_key))
    print(
        f"\nKeep a copy of {directory / f'{fqrn}.masterkey'} in a safe place:\n"
        "without it nobody can prolong the right to publish (`stratus resign`, every 30 days)."
    )
    return 0
