"""Price sheets: what requests, functions and storage cost. A sheet has a date, since prices change."""

from __future__ import annotations

import msgspec

from stratus.formats.receipt import Cost, Requests

GIB = 1 << 30  # what clouds mean by a GB, of storage as of memory


class PriceSheet(msgspec.Struct, frozen=True):
    """Prices in ``currency``; what is not named is free, as deletes are everywhere that we know of.

    Attributes:
        write: of a request that is dear: PUT, COPY, POST, LIST.
        read: of any other: GET, HEAD.
        upload, transfer: of a GiB into the store, and out of it to the internet.
        storage: of a GiB for a month.
        gb_second, invocation: of functions.
    """

    name: str
    currency: str
    write: float
    read: float
    upload: float = 0.0
    transfer: float = 0.0
    storage: float = 0.0
    gb_second: float = 0.0
    invocation: float = 0.0

    def price(self, requests: Requests, uploaded: int = 0, gb_seconds: float = 0.0, invocations: int = 0) -> Cost:
        """What these requests, bytes and function calls cost, once."""
        return self._cost(
            (requests.put + requests.list) * self.write
            + (requests.get + requests.head) * self.read
            + uploaded / GIB * self.upload
            + gb_seconds * self.gb_second
            + invocations * self.invocation
        )

    def keep(self, stored: int) -> Cost:
        """What it costs to keep so many bytes for a month."""
        return self._cost(stored / GIB * self.storage)

    def _cost(self, amount: float) -> Cost:
        return Cost(self.currency, round(amount, 9), self.name)


# List prices of us-east-1, without free tiers and above no discount's threshold: S3 Standard
# (https://aws.amazon.com/s3/pricing/) and Lambda on x86 (https://aws.amazon.com/lambda/pricing/).
AWS = PriceSheet(
    name="aws-2026-11",
    currency="USD",
    write=0.005 / 1000,
    read=0.0004 / 1000,
    upload=0.0,
    transfer=0.09,
    storage=0.023,
    gb_second=0.0000166667,
    invocation=0.20 / 1_000_000,
)
