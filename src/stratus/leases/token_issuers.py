"""Token issuers in the store: add, find, list, remove. What is written is in force at once: nobody keeps a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from stratus.errors import BadName, Changed, Exists, NoSuchRepository, Unknown, UsageError
from stratus.formats import records
from stratus.formats.issuer_record import IssuerRecord, Profile, Rule, issuer_id
from stratus.formats.records import Format
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import ABSENT, Match
from stratus.stores.flows import Flow

_ATTEMPTS = 8


def find(layout: Layout, issuer: str) -> Flow[IssuerRecord | None]:
    """The record of an issuer as it is now; None for one that is not known."""
    blob = yield from flows.find(layout.issuer(issuer_id(issuer)))
    return None if blob is None else IssuerRecord.parse(blob.data)


def list_all(layout: Layout) -> Flow[list[IssuerRecord]]:
    """All issuers that let somebody in, the oldest first."""
    stats = yield from flows.list_keys(layout.issuer())
    blobs = yield from flows.together([flows.find(stat.key) for stat in stats])
    found = [IssuerRecord.parse(blob.data) for blob in blobs if blob is not None]
    return sorted((one for one in found if one.rules), key=lambda record: (record.created, record.id))


def add(
    layout: Layout, issuer: str, audiences: Iterable[str], jwks_uri: str, profile: Profile, rule: Rule
) -> Flow[IssuerRecord]:
    """One more rule for an issuer; what else is said of the issuer holds for all its rules.

    Raises NoSuchRepository, UsageError if the issuer's other rules go with another audience, profile or key location.
    """
    now, form = yield from flows.both(flows.now(), flows.find(layout.format))
    if form is None:
        raise NoSuchRepository(f"there is no repository {layout.fqrn} in that store", hint="check the name and the URL")
    records.parse(form.data, Format).check()
    first = IssuerRecord.new(issuer, audiences, now, jwks_uri, profile)

    def change(known: IssuerRecord | None) -> IssuerRecord:
        if known is None:
            return first.with_rule(rule)
        if not known.rules:  # it was removed
            return msgspec.structs.replace(first.with_rule(rule), gen=known.gen + 1)
        if (known.audiences, known.jwks_uri, known.profile) != (first.audiences, first.jwks_uri, first.profile):
            raise UsageError(
                f"{issuer} has rules with another audience, profile or key location",
                hint="`stratus issuer list` shows them; remove them first, or say the same",
            )
        return known.with_rule(rule)

    return (yield from _change(layout, issuer, change))


def remove(layout: Layout, issuer: str, rule: str | None = None) -> Flow[IssuerRecord]:
    """One rule of an issuer, or all, let nobody in from now on. Raises BadName for one that there is not."""

    def change(known: IssuerRecord | None) -> IssuerRecord:
        if known is None:
            raise BadName(f"{issuer!r} is no token issuer here", hint="`stratus issuer list` shows all")
        if rule is not None and rule not in [one.id for one in known.rules]:
            raise BadName(f"{issuer} has no rule {rule!r}", hint="`stratus issuer list` shows all rules")
        return known.without_rule(rule)

    return (yield from _change(layout, issuer, change))


def _change(layout: Layout, issuer: str, how: Callable[[IssuerRecord | None], IssuerRecord]) -> Flow[IssuerRecord]:
    """Writes what ``how`` makes of the newest version, None if there is none, unless that changes nothing."""
    key = layout.issuer(issuer_id(issuer))
    for _ in range(_ATTEMPTS):
        blob = yield from flows.find(key)
        known = None if blob is None else IssuerRecord.parse(blob.data)
        changed = how(known)
        if changed is known:
            return known
        try:
            yield from flows.put(key, changed.pack(), ABSENT if blob is None else Match(blob.version))
        except (Changed, Exists):
            continue
        except Unknown:
            landed = yield from flows.find(key)
            if landed is None or IssuerRecord.parse(landed.data).nonce != changed.nonce:
                continue
        return changed
    raise Changed(f"the token issuer {issuer} is rewritten by others all the time", hint="try again in a moment")
