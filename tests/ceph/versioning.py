"""Versioned buckets."""

from __future__ import annotations

from stratus.stores.contract import ignore
from stratus.stores.s3 import S3Store
from stratus.stores.s3_wire import Wire

_ENABLED = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Status>Enabled</Status></VersioningConfiguration>"
)


def switch_versioning_on(store: S3Store) -> None:
    """From now on the store's bucket keeps what is replaced."""
    wire = Wire(store.place)
    reply = wire.ask(lambda: wire.sign("put", "PUT", None, query={"versioning": ""}, body=_ENABLED), ignore)
    assert reply.status == 200, reply
