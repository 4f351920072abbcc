"""All claims as they are now, for people and for whoever tidies up."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from stratus.errors import BadFormat, UsageError
from stratus.formats.claim import Claim
from stratus.leases.holding import Held
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow


class Found(msgspec.Struct, frozen=True):
    """A claim, and when the store took it last."""

    held: Held
    modified: datetime

    @property
    def claim(self) -> Claim:
        return self.held.claim

    @property
    def expires(self) -> datetime | None:
        """None for one that is sealed or dead."""
        return self.modified + timedelta(seconds=self.claim.ttl) if self.claim.state == "open" else None


def list_claims(layout: Layout) -> Flow[list[Found]]:
    """Those that leave the tree alone, too; sorted by path. One that cannot be read is left out."""
    listed = yield from flows.together([flows.list_keys(layout.lease("")), flows.list_keys(layout.pathless(""))])
    blobs = yield from flows.together([flows.find(stat.key) for stats in listed for stat in stats])
    found = []
    for blob in blobs:
        if blob is not None:
            try:
                found.append(Found(Held(Claim.parse(blob.data), blob.version), blob.modified))
            except BadFormat:
                continue
    return sorted(found, key=lambda one: (one.claim.path or "", one.claim.id))


def find_claim(layout: Layout, claim_id: str) -> Flow[Found]:
    """The claim with this id. Raises UsageError if there is none."""
    for found in (yield from list_claims(layout)):
        if found.claim.id == claim_id:
            return found
    raise UsageError(f"there is no lease {claim_id}", hint="`stratus lease list` shows those there are")
