"""Renewing the whitelist, which says until when a repository's certificate may be believed."""

from __future__ import annotations

from stratus.errors import NoSuchRepository, NotFound
from stratus.formats.paths import check_fqrn
from stratus.formats.trusted import verify_manifest
from stratus.formats.whitelist import Whitelist
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.trust.keys import WHITELIST_DAYS, RepositoryKeys


def resign(store: Store, fqrn: str, keys: RepositoryKeys, days: int = WHITELIST_DAYS) -> Whitelist:
    """Renews the whitelist for ``days`` from now on.

    Raises NoSuchRepository, NotPermitted without the master key, Untrusted if the keys are not the repository's.
    """
    layout = Layout(check_fqrn(fqrn))
    try:
        manifest = verify_manifest(store.get(layout.manifest).data, keys.certificate, fqrn)
    except NotFound as error:
        raise NoSuchRepository(
            f"there is no repository {fqrn} in {store.url}", hint="check the URL and the name"
        ) from error
    algorithm = manifest.root.algorithm
    whitelist = keys.new_whitelist(store.now(), algorithm, days)
    store.put(layout.whitelist, keys.sign_whitelist(whitelist, algorithm))
    return whitelist
