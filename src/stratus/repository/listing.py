"""The public list of a store's repositories, ``info/v1/repositories.json``, as stock monitoring reads it."""

from __future__ import annotations

import json
from typing import Any

from stratus.errors import Changed, Exists, Unknown
from stratus.repository.layout import INFO
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Match
from stratus.stores.flows import Flow

_ATTEMPTS = 8


def list_publicly(fqrn: str, present: bool) -> Flow[None]:
    """Adds the repository to the list or takes it out, keeping what others wrote there. Raises Changed."""
    for _ in range(_ATTEMPTS):
        found = yield from flows.find(INFO)
        listed = _parse(found.data) if found is not None else {}
        others = [item for item in listed.get("repositories", []) if item.get("name") != fqrn]
        own = [{"name": fqrn, "url": f"/cvmfs/{fqrn}"}] if present else []
        content = {"schema": 1, "replicas": [], **listed, "repositories": others + own}
        data = json.dumps(content, indent=1).encode() + b"\n"
        if found is not None and found.data == data:
            return
        try:
            yield from flows.put(INFO, data, ABSENT if found is None else Match(found.version))
        except (Changed, Exists, Unknown):
            continue
        return
    raise Changed("the list of repositories is rewritten by others all the time", hint="try again in a moment")


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
