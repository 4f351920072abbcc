"""What the owner changes goes into the audit trail, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratus.errors import StoreError

if TYPE_CHECKING:
    from stratus.repository.layout import Layout
    from stratus.stores.contract import Store


def note_change(store: Store, layout: Layout, kind: str, name: str, detail: str) -> None:
    """``kind`` of change, of what, and how it is now. Raises StoreError: the change was made all the same."""
    import getpass
    import socket

    from stratus.formats.audit import AuditEntry
    from stratus.functions.auditing import record
    from stratus.stores import flows

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # one without a name
        user = ""
    entry = AuditEntry(
        time=store.now(), kind=kind, writer=user, proof="owner", host=socket.gethostname(), id=name, detail=detail
    )
    try:
        flows.run(record(layout, entry), store)
    except StoreError as error:
        raise StoreError(f"it is done, but the audit trail does not have it: {error}", hint=error.hint) from error
