"""Destroying a repository."""

from __future__ import annotations

from stratus.errors import NoSuchRepository
from stratus.formats.paths import check_fqrn
from stratus.repository.layout import Layout
from stratus.repository.listing import list_publicly
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.stores.policy import forbid_reading


def destroy(store: Store, fqrn: str) -> int:
    """Removes everything of the repository, the manifest first; gives the number of keys. Keys of the owner stay.

    Raises NoSuchRepository if nothing is there.
    """
    layout = Layout(check_fqrn(fqrn))
    store.delete([layout.manifest])
    removed = 0
    for prefix in (layout.public, layout.private):
        keys = [stat.key for stat in store.list(prefix)]
        removed += len(store.delete(keys))
    if not removed:
        raise NoSuchRepository(f"there is no repository {fqrn} in {store.url}", hint="check the URL and the name")
    forbid_reading(store, fqrn)
    flows.run(list_publicly(fqrn, present=False), store)
    return removed
