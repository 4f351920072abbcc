"""Price sheets: what a store's requests cost. A sheet has a date, since prices change."""

from __future__ import annotations

from dataclasses import dataclass

from stratus.formats.receipt import Cost, Requests


@dataclass(frozen=True, slots=True)
class PriceSheet:
    """Prices per request in ``currency``; deletes are free everywhere that we know of."""

    name: str
    currency: str
    write: float  # PUT, COPY, LIST
    read: float  # GET, HEAD

    def price(self, requests: Requests) -> Cost:
        """What these requests cost."""
        amount = (requests.put + requests.list) * self.write + (requests.get + requests.head) * self.read
        return Cost(self.currency, round(amount, 9), self.name)


AWS = PriceSheet("aws-2026-11", "USD", write=5e-6, read=4e-7)  # S3 Standard, us-east-1, list prices
