"""The settings of a repository: reading them, and changing them while others may do so, too."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from stratus.errors import Changed, NoSuchRepository, Unknown
from stratus.formats import records
from stratus.formats.records import Settings, new_nonce
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Blob, Match
from stratus.stores.flows import Flow

_ATTEMPTS = 8
_PAUSE = 0.2  # seconds between two of them, about


def read(layout: Layout) -> Flow[Settings]:
    """As they are now. Raises NoSuchRepository."""
    blob = yield from _find(layout)
    return records.parse(blob.data, Settings)


def change(layout: Layout, wanted: Callable[[Settings], Settings]) -> Flow[tuple[Settings, Settings]]:
    """Settings before and after; nothing is written if they are equal.

    ``wanted`` is asked again when others were faster, or the answer was lost: it says how settings differ, whatever
    they were. Raises NoSuchRepository, Changed, and what it raises.
    """
    for _ in range(_ATTEMPTS):
        blob = yield from _find(layout)
        before = records.parse(blob.data, Settings)
        after = msgspec.structs.replace(wanted(before), nonce=before.nonce, gen=before.gen)
        if after == before:
            return before, before
        after = msgspec.structs.replace(after, nonce=new_nonce(), gen=before.gen + 1)
        try:
            yield from flows.put(layout.settings, records.pack(after), Match(blob.version))
        except (Changed, Unknown):
            yield from flows.sleep(_PAUSE * random.uniform(0.5, 1.5))
        else:
            return before, after
    raise Changed(f"the settings of {layout.fqrn} are rewritten by others all the time", hint="try again in a moment")


def _find(layout: Layout) -> Flow[Blob]:
    blob = yield from flows.find(layout.settings)
    if blob is None:
        raise NoSuchRepository(
            f"there are no settings of {layout.fqrn} in that store",
            hint="check the name; only those who may write to the store see them, so a public URL is not enough",
        )
    return blob
