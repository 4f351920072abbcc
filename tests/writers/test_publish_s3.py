"""What a publish asks of a real S3 server, counted at the store."""

from __future__ import annotations

from stratus.costs.meter import Meter
from stratus.formats.receipt import Requests
from stratus.stores.s3 import S3Store
from stratus.writers.publish import Options
from tests.repositories import content, new_repository, problems, put


def test_three_thousand_files_cost_one_put_each(s3_store: S3Store) -> None:
    new_repository(s3_store)
    files: dict[str, bytes | None] = {f"{n % 60}/{n}": b"%d" % n for n in range(3000)}
    meter = Meter()
    receipt = put(s3_store.observed(meter), files, b"/sw", Options(catalog=True))
    assert receipt.objects.new == 3000
    assert meter.requests.put <= 1.05 * receipt.objects.new
    assert meter.requests == receipt.requests
    assert problems(s3_store) == []
    assert content(s3_store)["sw/7/67"] == b"67"


def test_one_file_costs_33_requests(s3_store: S3Store) -> None:
    new_repository(s3_store)
    meter = Meter()
    receipt = put(s3_store.observed(meter), {"hello": b"hello\n"})
    assert meter.requests == receipt.requests == Requests(get=13, put=13, list=4, delete=2)
