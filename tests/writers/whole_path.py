"""What a writer does who has nothing but a key, on whatever bucket: lease, grants, uploads, submission, receipt."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import urllib3
from msgspec.structs import replace

from stratus.errors import Rejected
from stratus.formats import change_file
from stratus.formats.changes import ChangeSet, Put
from stratus.formats.compression import Compression
from stratus.formats.entries import Content, Entry, Kind
from stratus.formats.hashes import Algorithm, ObjectId
from stratus.formats.messages import LARGEST_INLINE, LeaseGranted, LeaseRequest, UploadGrant, Wanted
from stratus.formats.receipt import Receipt
from stratus.ingest.contract import NewObject
from stratus.stores.contract import ignore
from stratus.stores.http import HttpStore
from stratus.writers.api_client import ApiClient, LeaseName
from stratus.writers.granted import GrantUploader
from stratus.writers.publish import Options, forecast, publish
from tests.repositories import FQRN, Files, content, problems
from tests.writers.bucket import LAYOUT, Bucket

SW = b"/sw"


def publishes_with_nothing_but_a_key(bucket: Bucket) -> None:
    """Small files, chunks, a catalog of its own and one that is attached; twice; as it was foreseen."""
    writer = bucket.writer()
    big = os.urandom(300_000)
    files: dict[str, bytes | None] = {"a": b"1", "bin/tool": b"tool\n", "lib/big": big, "empty": b""}
    for number in range(60):
        files[f"many/{number}"] = os.urandom(40)
    source = [Files(files)]
    expected = forecast(writer, FQRN, SW, source, writer.name, Options(catalog=True))
    assert bucket.staged() == []
    receipt = publish(writer, FQRN, SW, source, writer.name, Options(catalog=True))
    assert (receipt.state, receipt.writer, receipt.revision) == ("published", "alice", 2)
    assert (expected.entries, expected.objects, expected.bytes) == (receipt.entries, receipt.objects, receipt.bytes)
    # What has to be read depends on what the server has read before.
    assert expected.requests == replace(receipt.requests, get=expected.requests.get)
    found = content(HttpStore(bucket.public))
    assert {name: found[f"sw/{name}"] for name in files} == files
    again = publish(bucket.writer(), FQRN, b"/copy", source, "alice")
    assert (again.objects.new, again.bytes.uploaded) == (0, 0)
    assert bucket.staged() == []
    assert problems(bucket.store, data=True) == []


def publishes_a_large_change_set(bucket: Bucket) -> None:
    client = bucket.client(bucket.key())
    granted = client.acquire(LeaseRequest(path="/large"), 0)
    top = b"/large"
    name, token = LeaseName(granted.id, top), granted.token
    entries = [
        Entry(top + b"/%05d" % n, Kind.SYMLINK, 0o777, 0, 0, 90, 1, os.urandom(45).hex().encode())
        for n in range(25_000)
    ]
    made = Entry(top, Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
    change_set = ChangeSet(
        granted.id, FQRN, top, [Put(made), *map(Put, entries)], base=granted.base.revision, writer="alice"
    )
    file = change_file.pack(change_set)
    assert len(file) > LARGEST_INLINE
    (grant,) = client.grants(name, token, [Wanted("change-set", len(file))]).grants
    assert client.put(name, grant, file, ignore)
    client.submit(name, token, b"", change_file.digest(file))
    client.submit(name, token, b"", change_file.digest(file))  # as after an answer that was lost
    receipt = _receipt(client, granted)
    assert (receipt.state, receipt.entries.added) == ("published", 25_001)
    assert bucket.staged() == []


def _receipt(client: ApiClient, lease: LeaseGranted) -> Receipt:
    end = time.monotonic() + 60
    while not isinstance(found := client.receipt(lease.id, 20), Receipt):
        assert time.monotonic() < end
    return found


def is_seen_by_a_mounted_client(bucket: Bucket, mountpoint: Path, tree: Path) -> None:
    """By the command line, from publishing to reading, without any credentials."""
    published = bucket.stratus("publish", f"{FQRN}:/sw", tree)
    assert published.returncode == 0, published.stderr
    assert bucket.stratus("mount", FQRN, mountpoint, "--poll", "0.2").returncode == 0
    try:
        assert (mountpoint / "sw" / "README").read_text() == "read me\n"
        (tree / "new").write_text("new\n")
        assert bucket.stratus("publish", f"{FQRN}:/sw", tree).returncode == 0
        give_up = time.monotonic() + 20
        while not (mountpoint / "sw" / "new").exists():
            assert time.monotonic() < give_up
            time.sleep(0.05)
    finally:
        assert bucket.stratus("umount", mountpoint).returncode == 0


# -- wrong bytes -----------------------------------------------------------------------------------------------------


def lets_no_wrong_bytes_in(bucket: Bucket, staged: bool) -> None:
    """By no grant, whatever its holder sends; and nothing that exists is replaced."""
    client = bucket.client(bucket.key())
    granted = client.acquire(LeaseRequest(path="/sw"), 0)
    one, stored = _object(b"right")
    grant = _grant(client, granted, one, len(stored))
    wrong = bytes(len(stored))
    assert _send(grant, wrong) == (200 if staged else 400)
    assert bucket.store.missing([LAYOUT.object(one)])
    for other in (stored + b"x", stored[:-1]):
        assert _send(grant, other) == 403
    if staged:
        with pytest.raises(Rejected) as caught:
            _submit(client, granted, one, len(b"right"))
        assert caught.value.reason == "objects_damaged"
        assert bucket.store.missing([LAYOUT.object(one)])
    assert _send(grant, stored) == 200
    assert _send(grant, stored) == (200 if staged else 412)
    _submit(client, granted, one, len(b"right"))
    assert _receipt(client, granted).state == "published"
    assert content(HttpStore(bucket.public))["sw/file"] == b"right"
    if staged:  # the grant is still good, and leads to nothing
        assert _send(grant, wrong) == 200
    else:
        assert _send(grant, wrong) in (400, 412)
    assert content(HttpStore(bucket.public))["sw/file"] == b"right"
    assert problems(bucket.store, data=True) == []


def _object(data: bytes) -> tuple[ObjectId, bytes]:
    stored = Compression.ZLIB.pack(data)
    return ObjectId(Algorithm.SHA1.digest(stored)), stored


def _grant(client: ApiClient, lease: LeaseGranted, one: ObjectId, size: int) -> UploadGrant:
    (grant,) = client.grants(LeaseName(lease.id, SW), lease.token, [Wanted(str(one), size)]).grants
    return grant


def _send(grant: UploadGrant, body: bytes) -> int:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("PUT", grant.url, body=body, headers=dict(grant.headers)).status


def _submit(client: ApiClient, lease: LeaseGranted, one: ObjectId, size: int) -> None:
    entry = Entry(SW + b"/file", Kind.FILE, 0o644, 0, 0, size, 1, content=Content(Algorithm.SHA1, one.digest))
    top = Entry(SW, Kind.DIRECTORY, 0o755, 0, 0, 4096, 1)
    made = ChangeSet(lease.id, FQRN, SW, [Put(top), Put(entry)], (one,), lease.base.revision, "alice")
    client.submit(LeaseName(lease.id, SW), lease.token, change_file.pack(made))


def takes_an_upload_again_after_its_grant_ran_out(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bucket.client(bucket.key())
    lease = client.acquire(LeaseRequest(path="/sw"), 0)
    asked: list[int] = []
    genuine = client.grants

    def grants(name: LeaseName, token: str, objects: list[Wanted]) -> object:
        found = genuine(name, token, objects)
        asked.append(len(found.grants))
        if len(asked) == 1:  # what has run out is refused, as is what was changed
            bad = tuple(replace(one, url=one.url.replace("Signature=", "Signature=0")) for one in found.grants)
            return replace(found, grants=bad)
        return found

    monkeypatch.setattr(client, "grants", grants)
    bodies = [os.urandom(100) for _ in range(3)]
    objects = [NewObject(ObjectId(Algorithm.SHA1.digest(body)), body, 100) for body in bodies]
    upload = GrantUploader(client, LeaseName(lease.id, SW), lease.token)
    assert upload(objects).created == [True] * 3
    assert asked == [3, 3]
