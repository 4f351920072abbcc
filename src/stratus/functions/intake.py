"""How the objects of writers come into a store that they have no credentials for."""

from __future__ import annotations

from enum import Enum

from stratus.errors import NoSuchRepository
from stratus.formats import records
from stratus.formats.hashes import Algorithm
from stratus.formats.records import Format, Settings
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.flows import Flow
from stratus.stores.probe import Capabilities


class Intake(Enum):
    """The way of an upload; whichever it is, nothing comes to ``data/`` but what its name says."""

    DIRECT = "direct"
    """To ``data/`` at once: the store refuses all other bytes."""
    STAGED = "staged"
    """To ``staging/`` first, since the store takes any bytes: the submission looks at them, and moves them."""
    THROUGH = "through"
    """Through the API, which looks at them: the store cannot let others in."""

    @classmethod
    def of(cls, form: Format, settings: Settings) -> Intake:
        found = Capabilities.from_json(form.capabilities)
        if not found.grants:
            return cls.THROUGH
        return cls.DIRECT if found.checksums and settings.algorithm is Algorithm.SHA1 else cls.STAGED


def read_settings(layout: Layout) -> Flow[tuple[Settings, Intake]]:
    """Of a repository. Raises NoSuchRepository, Unsuitable."""
    form, settings = yield from flows.both(flows.find(layout.format), flows.find(layout.settings))
    if form is None or settings is None:
        raise NoSuchRepository(f"there is no repository {layout.fqrn} here", hint="check the name and the URL")
    found = records.parse(form.data, Format)
    found.check()
    parsed = records.parse(settings.data, Settings)
    return parsed, Intake.of(found, parsed)
