from __future__ import annotations

from stratus.costs.meter import Meter
from stratus.costs.prices import PriceSheet
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


def test_requests_are_priced_by_a_dated_sheet() -> None:
    sheet = PriceSheet("x-2026-11", "EUR", write=2.0, read=0.5)
    cost = sheet.price(Requests(get=2, put=3, list=1, head=2, delete=100))
    assert (cost.amount, cost.currency, cost.sheet) == (10.0, "EUR", "x-2026-11")
