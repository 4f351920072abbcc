"""Looks at a deployment that lives: permissions, caches, clocks, the API, and whether events arrive.

It asks as strangers, readers, a writer and the owner would. The owner puts a probe into the queue, as a submission
does, and takes away what becomes of it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import urllib3

from stratus.commit.queue import ENTRY
from stratus.errors import StratusError
from stratus.formats.changes import new_id
from stratus.formats.hashes import ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.whitelist import Whitelist
from stratus.leases import writer_keys
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store, default_headers
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey

_TIMEOUT = 20.0  # seconds
_SKEW = 60.0  # seconds that two clocks may differ
_LEAST_DAYS = 7.0  # that the whitelist should be good for, as it is signed anew well before
_PAUSE = 0.5  # seconds between two looks for the probe
_ONE_WAIT = 5  # seconds that one request waits for a receipt
_NAME = "deploy-check"  # of the writer
_AGE = re.compile(r"max-age=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was seen; ``good`` if that is as it should be."""

    what: str
    good: bool
    text: str


def check(store: Store, fqrn: str, url: str, wait: float, *, notified: bool) -> Iterator[Finding]:
    """What is found, one after another.

    ``url`` is where writers and readers come: ``/api/v1`` and ``/cvmfs`` are below it. ``wait`` is how many seconds a
    probe may take; with ``notified``, the store itself tells of what is put into the queue.
    """
    checking = _Checking(store, Layout(fqrn), url.rstrip("/"))
    for what, look in checking.all(wait, notified):
        try:
            yield from (Finding(what, good, text) for good, text in look())
        except (StratusError, urllib3.exceptions.HTTPError) as error:
            yield Finding(what, False, str(error) or type(error).__name__)


_Seen = Iterator[tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class _Checking:
    store: Store
    layout: Layout
    url: str

    def all(self, wait: float, notified: bool) -> Iterator[tuple[str, Callable[[], _Seen]]]:
        yield "store", self._store
        yield "readers", self._readers
        yield "strangers", self._strangers
        yield "caches", self._caches
        yield "api", self._api
        yield "clocks", self._clocks
        yield "whitelist", self._whitelist
        yield "functions", lambda: self._functions(wait)
        if notified:
            yield "events", lambda: self._events(wait)

    @property
    def _public(self) -> str:
        return f"{self.url}/cvmfs/{self.layout.fqrn}"

    @property
    def _base(self) -> str:
        return f"{self.url}/api/v1/repositories/{self.layout.fqrn}"

    def _store(self) -> _Seen:
        self.store.get(self.layout.format)
        key = self.layout.staged(new_id(), "check")
        self.store.put(key, b"{}")
        gone = self.store.delete([key])
        yield bool(gone), "the owner may read, write and delete" if gone else "the owner may not delete"

    def _readers(self) -> _Seen:
        reply = _ask("GET", f"{self._public}/.cvmfspublished")
        yield reply.status == 200, f"the manifest is answered with {reply.status}"

    def _strangers(self) -> _Seen:
        for path in (
            f"/cvmfs/.stratus/{self.layout.fqrn}/settings.json",
            f"/.stratus/{self.layout.fqrn}/settings.json",
        ):
            reply = _ask("GET", self.url + path)
            yield reply.status in (403, 404), f"what is private is answered with {reply.status}"
        reply = _ask("POST", f"{self._base}/leases", b"{}")
        yield reply.status == 401, f"a lease without a key is answered with {reply.status}"
        reply = _ask("POST", f"{self.url}/", b'{"kind": "tend"}')
        yield reply.status >= 400, f"an event of a stranger is answered with {reply.status}"

    def _caches(self) -> _Seen:
        manifest = _ask("GET", f"{self._public}/.cvmfspublished")
        age, allowed = _age(manifest.headers), _wanted(self.layout.manifest)
        yield age is not None and age <= allowed, f"a manifest may be kept for {_said(age)}"
        key = ObjectId(Manifest.parse(manifest.data).root, Suffix.CATALOG).key
        kept = _ask("HEAD", f"{self._public}/{key}")
        age, needed = (
            _age(kept.headers),
            _age({"Cache-Control": default_headers(self.layout.public + key).cache_control}),
        )
        yield kept.status == 200 and age is not None and age >= (needed or 0), f"an object may be kept for {_said(age)}"
        missing = _ask("GET", f"{self._public}/data/00/{'0' * 38}")
        yield missing.status in (403, 404), f"an object that is not there is answered with {missing.status}"

    def _api(self) -> _Seen:
        reply = _ask("GET", self._base)
        if reply.status != 200:
            yield False, f"the API answers with {reply.status}"
            return
        served = json.loads(reply.data).get("revision")
        newest = Manifest.parse(self.store.get(self.layout.manifest).data).revision
        yield served is not None and served >= newest - 1, f"the API is at revision {served}, the store at {newest}"

    def _clocks(self) -> _Seen:
        here = datetime.now(UTC)
        clocks = {"the store": self.store.now()}
        date = _ask("GET", self._base).headers.get("Date")
        if date is not None:
            clocks["the API"] = parsedate_to_datetime(date)
        for name, now in clocks.items():
            off = (now - here).total_seconds()
            yield abs(off) < _SKEW, f"the clock of {name} is {abs(off):.0f} s off this one"

    def _whitelist(self) -> _Seen:
        expires = Whitelist.parse(self.store.get(self.layout.whitelist).data).expires
        left = (expires - self.store.now()).total_seconds() / 86_400
        yield left > _LEAST_DAYS, f"the whitelist is good for {left:.0f} days"

    def _functions(self, wait: float) -> _Seen:
        """Who asks for a receipt wakes the committer. It gives up what is under nobody's lease, with a receipt."""
        key, probe = WriterKey.generate(), new_id()
        record = flows.run(writer_keys.create(self.layout, key.public_key, _NAME, (b"/.stratus-check",)), self.store)
        body, entry = self.layout.change_set(probe), self.layout.queue(f"@!!{probe}")
        url = f"{self._base}/change-sets/{probe}/receipt?wait={_ONE_WAIT}"
        begun, status = time.monotonic(), 202
        try:
            self.store.put(body, b"")
            self.store.put(entry, ENTRY)
            while status == 202 and time.monotonic() < begun + wait:
                signed = sign("GET", url, {}, b"", key, datetime.now(UTC))
                status = urllib3.request("GET", url, headers=signed, timeout=_TIMEOUT + _ONE_WAIT, retries=False).status
                time.sleep(0 if status == 200 else _PAUSE)
            seconds = time.monotonic() - begun
            yield status == 200, f"a receipt was answered with {status} after {seconds:.1f} s"
        finally:
            self.store.delete([entry, body, self.layout.receipt(probe), self.layout.key(record.id)])

    def _events(self, wait: float) -> _Seen:
        """Nobody asks for this one."""
        probe = new_id()
        entry = self.layout.queue(f"@!!{probe}")
        self.store.put(entry, ENTRY)
        begun = time.monotonic()
        try:
            while time.monotonic() < begun + wait:
                if self.store.missing([entry]):
                    yield True, f"what was put into the queue was handled after {time.monotonic() - begun:.1f} s"
                    return
                time.sleep(_PAUSE)
            yield False, f"what was put into the queue was not handled in {wait:.0f} s"
        finally:
            self.store.delete([entry, self.layout.receipt(probe)])


def _ask(method: str, url: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    headers = {"Content-Type": "application/json"} if body else None
    return urllib3.request(method, url, body=body, headers=headers, timeout=_TIMEOUT, retries=False, redirect=False)


def _wanted(key: str) -> int:
    """Seconds that caches may keep it, as it was stored."""
    return _age({"Cache-Control": default_headers(key).cache_control}) or 0


def _age(headers: Mapping[str, str]) -> int | None:
    found = _AGE.search(headers.get("Cache-Control", ""))
    return None if found is None else int(found[1])


def _said(age: int | None) -> str:
    return "as long as caches like" if age is None else f"{age} s"
