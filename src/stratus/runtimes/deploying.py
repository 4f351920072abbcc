"""Descriptors of deployments: templates of this package, with a repository's settings in them.

``deploy/`` has them as they are for ``software.example.org``, and a test keeps the two alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from stratus._version import __version__
from stratus.errors import StratusError, UsageError
from stratus.formats.paths import check_fqrn
from stratus.repository.layout import Layout
from stratus.runtimes.local.budgets import default_budgets
from stratus.stores.contract import default_headers

Kind = Literal["local", "http", "aws"]
KINDS: tuple[Kind, ...] = ("local", "http", "aws")
_NAME = re.compile(r"@\{([a-z_]+)\}")
_AGE = re.compile(r"max-age=([0-9]+)")
_ERRORS = 10  # seconds that a cache may remember that something is not there
_VISIBILITY = 6  # how many times as long as a function may take a message is hidden, as AWS recommends


@dataclass(frozen=True, slots=True)
class Target:
    """What is deployed.

    Attributes:
        store: its URL.
        url: that writers will use; may be empty.
        image: of the container.
        secrets: where the container finds secrets, as ``STRATUS_SECRETS`` says it.
    """

    fqrn: str
    store: str
    url: str = ""
    image: str = f"registry.example.org/stratus:{__version__}"
    secrets: str = "file:///keys"


def render(kind: Kind, target: Target) -> dict[str, str]:
    """Files by name, relative. Raises UsageError where the store does not fit."""
    values = _values(kind, target)
    top = resources.files("stratus.runtimes") / "descriptors" / kind
    return {name: _filled(text, values) for name, text in _files(top)}


def write(files: Mapping[str, str], directory: Path) -> None:
    """Raises StratusError."""
    try:
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
    except OSError as error:
        raise StratusError(
            f"cannot write {error.filename}: {error.strerror}", hint="choose another --output"
        ) from error


def _files(top: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in sorted(top.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            found += _files(item, f"{prefix}{item.name}/")
        else:
            found.append((f"{prefix}{item.name}", item.read_text()))
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _NAME.sub(lambda match: values[match[1]], text)


def _values(kind: Kind, target: Target) -> dict[str, str]:
    layout = Layout(check_fqrn(target.fqrn))
    values = {
        "fqrn": target.fqrn,
        "id": target.fqrn.replace(".", "-").replace("_", "-").lower(),
        "version": __version__,
        "store": _plain(target.store),
        "url": _plain(target.url),
        "host": urlsplit(target.url).hostname or f"publish.{target.fqrn.partition('.')[2]}",
        "image": _plain(target.image),
        "secrets": _plain(target.secrets),
        "pointer_seconds": _seconds(layout.manifest),
        "object_seconds": _seconds(f"{layout.public}data/"),
        "error_seconds": str(_ERRORS),
    }
    for name, budget in default_budgets().items():
        seconds = int(budget.seconds)
        values[f"{name}_seconds"] = str(seconds)
        values[f"{name}_visibility"] = str(seconds * _VISIBILITY)
        values[f"{name}_memory"] = str(budget.memory >> 20)
    scheme, _, rest = target.store.partition("://")
    match kind:
        case "local":
            values["writable"] = rest if scheme == "file" else target.store if "://" not in target.store else "-/srv"
        case "http" if scheme != "s3":
            raise UsageError(
                f"{target.store} is a directory, which containers do not share",
                hint="use a bucket, or `stratus deploy local`",
            )
        case "aws":
            bucket, _, prefix = rest.partition("?")[0].strip("/").partition("/")
            if scheme != "s3" or "endpoint=" in rest:
                raise UsageError(f"{target.store} is no bucket of AWS", hint="give --store s3://bucket[/prefix]")
            values |= {
                "bucket": bucket,
                "prefix": f"{prefix}/" if prefix else "",
                "slash_prefix": f"/{prefix}" if prefix else "",
            }
    return values


def _plain(text: str) -> str:
    """Raises UsageError for what would have to be quoted in a descriptor."""
    if not re.fullmatch(r"[\w.~:/?&=%@+,-]*", text):
        raise UsageError(f"{text!r} has characters that do not belong into a URL", hint="percent-encode them")
    return text


def _seconds(key: str) -> str:
    found = _AGE.search(default_headers(key).cache_control)
    assert found is not None
    return found[1]
