"""A writer with a key, by whatever carries its requests; and instances of runtimes that can be killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import urllib3

from stratus.commit import submitting
from stratus.formats import change_file, messages
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.claim import Epoch
from stratus.formats.compression import Compression
from stratus.formats.entries import Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.messages import CHANGE_SET_TYPE, TOKEN_HEADER, LeaseGranted, LeaseRequest
from stratus.formats.receipt import Receipt
from stratus.formats.records import Lock, pack, parse
from stratus.leases import writer_keys
from stratus.leases.acquiring import Wish, acquire
from stratus.repository.layout import Layout
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey
from tests.functions.desk import file, of_changes
from tests.repositories import FQRN

LAYOUT = Layout(FQRN)
Ask = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]
"""Makes a request: method, URL, headers, body; gives status and body. Raises ConnectionError."""
_PASSING = (429, 500, 502, 503, 504, 507)


def over_http(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    try:
        reply = urllib3.request(method, url, headers=dict(headers), body=body, timeout=60, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError(str(error)) from error
    return reply.status, reply.data


@dataclass(frozen=True, slots=True)
class Writer:
    """Someone who publishes files below a path, and asks again when an instance was killed meanwhile."""

    store: Store
    ask: Ask
    url: str
    key: WriterKey
    name: str = "alice"

    @classmethod
    def new(cls, store: Store, ask: Ask, url: str, name: str = "alice") -> Writer:
        key = WriterKey.generate()
        flows.run(writer_keys.create(LAYOUT, key.public_key, name, (b"",)), store)
        return cls(store, ask, url, key, name)

    def request(self, method: str, target: str, body: bytes = b"", times: int = 1, **headers: str) -> tuple[int, bytes]:
        """Signed; as often as that is needed to be answered."""
        url = f"{self.url}/api/v1/repositories/{FQRN}{target}"
        for attempt in range(times):
            signed = sign(method, url, headers, body, self.key, datetime.now(UTC))
            try:
                status, answer = self.ask(method, url, signed, body)
            except ConnectionError:
                status, answer = 503, b""
            if status not in _PASSING or attempt == times - 1:
                break
            time.sleep(0.2)
        return status, answer

    def lease(self, path: str, times: int = 1) -> LeaseGranted:
        wish = LeaseRequest(path=path)
        status, answer = 503, b""
        for attempt in range(1, times + 1):  # a later attempt takes the place of one whose answer was lost
            body = messages.pack(msgspec.structs.replace(wish, attempt=attempt))
            status, answer = self.request("POST", "/leases", body)
            if status not in (*_PASSING, 409):
                break
            time.sleep(0.2)
        assert status == 201, answer
        return messages.parse(answer, LeaseGranted)

    def submit(self, path: str, files: Mapping[str, bytes], times: int = 1) -> str:
        """Leases, stores objects, submits; gives the id."""
        lease = self.lease(path, times)
        for data in files.values():
            stored = Compression.ZLIB.pack(data)
            self.store.put(LAYOUT.object(ObjectId(Algorithm.SHA1.digest(stored))), stored)
        entries = [file(f"{path}/{name}", data) for name, data in sorted(files.items())]
        top = Entry(path.encode(), Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
        body = change_file.pack(of_changes(lease, [Put(one) for one in (top, *entries)], writer=self.name))
        headers = {"Content-Type": CHANGE_SET_TYPE, TOKEN_HEADER: lease.token}
        status, answer = self.request("POST", f"/change-sets/{lease.id}?path={path}", body, times, **headers)
        assert status in (200, 202), answer
        return lease.id

    def receipt(self, change_set: str, seconds: float = 60) -> Receipt:
        """Waits for it."""
        end = time.monotonic() + seconds
        while True:
            status, answer = self.request("GET", f"/change-sets/{change_set}/receipt?wait=1", times=20)
            if status == 200:
                return Receipt.parse(answer)
            assert status == 202, answer
            assert time.monotonic() < end, f"no receipt after {seconds} s"
            time.sleep(0.2)


def submit_and_leave(store: Store, path: bytes = b"/sw") -> str:
    """By somebody who is gone before anybody is woken."""
    gc = Epoch(0, "quiet")
    held = flows.run(acquire(LAYOUT, Wish(path, "bob", "there", "secret"), gc), store)
    entry = Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
    file = change_file.pack(ChangeSet(held.claim.id, FQRN, path, (Put(entry),), base=1, writer="bob"))
    flows.run(submitting.submit(LAYOUT, held, file, 1, gc), store)
    return held.claim.id


def expire_lock(store: Store) -> None:
    """What time does to the lock of an instance that was killed."""
    lock = parse(store.get(LAYOUT.lock).data, Lock)
    if lock.held:
        store.put(LAYOUT.lock, pack(msgspec.structs.replace(lock, held=False)))
