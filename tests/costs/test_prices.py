from __future__ import annotations

import pytest

from stratus.costs.prices import AWS, GIB, PriceSheet
from stratus.formats.receipt import Requests

SHEET = PriceSheet("x-2026-11", "EUR", write=2.0, read=0.5, upload=3.0, storage=7.0, gb_second=0.25, invocation=10.0)


def test_requests_are_priced_by_what_they_are() -> None:
    cost = SHEET.price(Requests(get=2, put=3, list=1, head=2, delete=100))
    assert (cost.amount, cost.currency, cost.sheet) == (10.0, "EUR", "x-2026-11")


def test_bytes_and_functions_are_priced_too() -> None:
    assert SHEET.price(Requests(), uploaded=GIB // 2).amount == 1.5
    assert SHEET.price(Requests(), gb_seconds=4.0).amount == 1.0
    assert SHEET.price(Requests(), invocations=2).amount == 20.0
    assert SHEET.price(Requests(put=1), GIB, 4.0, 2).amount == 26.0
    assert SHEET.keep(2 * GIB).amount == 14.0


def test_the_sheet_of_aws_is_its_list() -> None:
    assert AWS.name == "aws-2026-11"
    thousand = Requests(put=500, list=500)
    assert AWS.price(thousand).amount == pytest.approx(0.005)
    assert AWS.price(Requests(get=500, head=500)).amount == pytest.approx(0.0004)
    assert AWS.price(Requests(delete=1000), uploaded=100 * GIB).amount == 0
    # A million calls of 100 ms with 1 GB, as on the page of Lambda's prices.
    assert AWS.price(Requests(), 0, 100_000.0, 1_000_000).amount == pytest.approx(1.66667 + 0.20)
    assert AWS.keep(1000 * GIB).amount == pytest.approx(23.0)
