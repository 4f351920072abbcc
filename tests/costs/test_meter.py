from __future__ import annotations

from stratus.costs.meter import Meter
from stratus.formats.receipt import Requests
from stratus.stores.memory import MemoryStore


def test_every_request_is_counted_with_its_bytes() -> None:
    meter = Meter()
    store = MemoryStore().observed(meter)
    store.put("a", b"12345")
    store.get("a")
    store.missing(["a", "b"])
    list(store.list(""))
    store.delete(["a"])
    assert meter.requests == Requests(get=1, put=1, list=1, head=2, delete=1)
    assert (meter.sent, meter.received) == (5, 5)
    assert meter.requests.total == 6
