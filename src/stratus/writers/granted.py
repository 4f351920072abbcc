"""Uploads by grants: a writer who has no credentials for the store asks the API, and puts what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stratus.formats.messages import MOST_GRANTS, UploadGrant, Wanted
from stratus.formats.receipt import Requests
from stratus.ingest.contract import NewObject, Packed, Uploader
from stratus.stores.contract import Exchange, Observer, Shared, ignore
from stratus.stores.parallel import each
from stratus.writers.api_client import ApiClient, GrantOver, LeaseName
from stratus.writers.uploaders import Report, StoreAppraiser
from stratus.writers.uploading import StoreDelivery

_TRIES = 3  # of one object, with another grant each


class GrantUploader:
    """Uploads objects under a lease; after it was sent to another process, from there."""

    def __init__(self, client: ApiClient, lease: LeaseName, token: str) -> None:
        self._client = client
        self._lease = lease
        self._token = token

    def __call__(self, objects: Sequence[NewObject]) -> Report:
        """``created`` is None for what was there before it was asked. Raises StoreError, NotPermitted, LeaseLost."""
        heard = _Heard()
        bodies = {str(one.id): one.stored for one in objects}
        created: dict[str, bool] = {}
        names = list(bodies)
        for start in range(0, len(names), MOST_GRANTS):
            created |= self._upload({name: bodies[name] for name in names[start : start + MOST_GRANTS]}, heard)
        return Report([created.get(str(one.id)) for one in objects], heard.told())

    def _upload(self, bodies: Mapping[str, bytes], observer: Observer) -> dict[str, bool]:
        """Whether each was created; without those that were there. Grants that have run out are asked for again."""
        created: dict[str, bool] = {}
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1

            def put(grant: UploadGrant, last: bool = last) -> tuple[str, bool | None]:
                try:
                    return grant.id, self._client.put(self._lease, grant, bodies[grant.id], observer)
                except GrantOver:
                    if last:
                        raise
                    return grant.id, None

            wanted = [Wanted(name, len(body)) for name, body in bodies.items() if name not in created]
            answers = dict(each(put, self._client.grants(self._lease, self._token, wanted).grants))
            created |= {name: done for name, done in answers.items() if done is not None}
            if None not in answers.values():
                break
        return created


class _Heard:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)

    def told(self) -> list[tuple[object, ...]]:
        return [(one.verb, one.key, one.status, one.sent, one.received, one.seconds) for one in self._exchanges]


class GrantDelivery(StoreDelivery, kw_only=True):
    """A ``Delivery`` by grants. The API asks the store whether an object is there; that is no request of the writer.

    What is only appraised is looked for in what everybody can read.

    Attributes:
        through: what uploads.
        observer: is told of each PUT.
    """

    through: GrantUploader | None = None
    observer: Observer = ignore

    @property
    def uploader(self) -> Uploader:
        return self.through or StoreAppraiser(self.store, self.layout)

    @property
    def anywhere(self) -> bool:
        return self.through is not None or isinstance(self.store, Shared)

    def sent(self, objects: Sequence[Packed], report: Report) -> None:
        self._tell(report)
        put = self._puts(report)
        new = sum(created is True for created in report.created)
        uploaded = sum(one.stored_size for one, sent in zip(objects, put, strict=True) if sent)
        for one in objects:
            self._remember(one)
        self._count(new=new, present=len(objects) - new, uploaded=uploaded)
        self.requests = Requests(put=self.requests.put + sum(put))

    def keep(self, objects: Sequence[NewObject]) -> None:
        report = self.uploader([one for one in objects if one.id not in self.known])
        self._tell(report)
        self.requests = Requests(put=self.requests.put + self._puts(report).count(True))

    def _puts(self, report: Report) -> list[bool]:
        """Which objects were sent, or would be: those that are there are not."""
        return [bool(created) if self.appraises else created is not None for created in report.created]

    def _tell(self, report: Report) -> None:
        tell = self.store.tell if self.through is None and isinstance(self.store, Shared) else self.observer
        for values in report.exchanges:
            tell(Exchange(*values))
