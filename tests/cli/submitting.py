"""Change sets that are submitted for /sw by somebody who is gone, and that nobody has committed."""

from __future__ import annotations

from pathlib import Path

from stratus.commit import submitting
from stratus.formats import change_file
from stratus.formats.changes import Change, ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.entries import Entry, Kind
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.directory import DirectoryStore


def submit(store: Path, fqrn: str, *changes: Change) -> str:
    """By default that makes a directory; gives the id."""
    layout, gc = Layout(fqrn), Epoch(0, "quiet")
    held = flows.run(acquire(layout, Wish(b"/sw", "bob", "there", "secret"), gc), DirectoryStore(store))
    entry = Entry(b"/sw", Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
    file = change_file.pack(ChangeSet(held.claim.id, fqrn, b"/sw", changes or (Put(entry),), base=1, writer="bob"))
    flows.run(submitting.submit(layout, held, file, 1, gc), DirectoryStore(store))
    return held.claim.id
