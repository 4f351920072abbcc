"""The table: what happens, and how it is made to happen."""

from __future__ import annotations

import gzip
import io
import tarfile
from datetime import UTC, datetime, timedelta

from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.stores import retries
from stratus.trust.keys import RepositoryKeys
from tests.bad_input.desk import LAYOUT, Case, Desk, Words
from tests.conftest import BUCKET
from tests.repositories import FQRN, keys, reader

HTML = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><body>Please log in</body></html>")


def _archive(name: str = "tool/bin", data: bytes = b"#!/bin/sh\n" * 500) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _publish(desk: Desk, name: str, data: bytes) -> Words:
    return "publish", FQRN, desk.file(name, data)


def _lying(desk: Desk) -> Words:
    data = bytearray(gzip.compress(_archive()))
    data[-8] ^= 1  # the check sum
    return _publish(desk, "tool.tar.gz", bytes(data))


# -- what is stored ----------------------------------------------------------------------------------------------------


def _object_of(desk: Desk, path: bytes) -> str:
    with reader(desk.store).at() as revision:
        entry = revision.lookup(path)
    assert entry is not None
    assert entry.content is not None
    return LAYOUT.object(next(iter(entry.content.objects())))


def _root_of(desk: Desk) -> str:
    return LAYOUT.object(ObjectId(reader(desk.store).manifest.root, Suffix.CATALOG))


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _damaged(desk: Desk, key: str, *words: str) -> Words:
    desk.damage(key, _flipped)
    return words


def _lost(desk: Desk, key: str, *words: str) -> Words:
    desk.lose(key)
    return words


def _forged(desk: Desk) -> Words:
    desk.damage(LAYOUT.manifest, lambda data: data.replace(b"\nD", b"\nD9", 1))
    return "ls", FQRN


def _garbage(desk: Desk) -> Words:
    desk.damage(LAYOUT.manifest, lambda _: b"Service temporarily out of order")
    return "ls", FQRN


def _expired(desk: Desk) -> Words:
    listed = keys().new_whitelist(datetime.now(UTC) - timedelta(days=40), Algorithm.SHA1)
    desk.store.put(LAYOUT.whitelist, keys().sign_whitelist(listed, Algorithm.SHA1))
    return "ls", FQRN


def _of_another(desk: Desk) -> Words:
    manifest = desk.store.get(LAYOUT.manifest).data
    other = "other.example.org"
    desk.store.put(f"{other}/.cvmfspublished", manifest)
    return "ls", desk.home / "store" / other, *desk.public_key


def _newer_format(desk: Desk) -> Words:
    desk.damage(LAYOUT.format, lambda data: data.replace(b'"format":1', b'"format":99'))
    return _publish(desk, "tool.tar", _archive())


# -- keys --------------------------------------------------------------------------------------------------------------


def _missing_keys(desk: Desk) -> Words:
    (desk.home / "empty").mkdir()
    return *_publish(desk, "tool.tar", _archive()), "--keys", desk.home / "empty"


def _other_keys(desk: Desk) -> Words:
    RepositoryKeys.generate(FQRN).save(desk.home / "others")
    return *_publish(desk, "tool.tar", _archive()), "--keys", desk.home / "others"


def _broken_key(desk: Desk) -> Words:
    (desk.home / "keys" / f"{FQRN}.key").write_text("not a key\n")
    return _publish(desk, "tool.tar", _archive())


def _mixed_keys(desk: Desk) -> Words:
    RepositoryKeys.generate(FQRN).save(desk.home / "others")
    (desk.home / "others" / f"{FQRN}.key").replace(desk.home / "keys" / f"{FQRN}.key")
    return _publish(desk, "tool.tar", _archive())


def _no_master_key(desk: Desk) -> Words:
    (desk.home / "keys" / f"{FQRN}.masterkey").unlink()
    return "resign", FQRN


def _wrong_public_key(desk: Desk) -> Words:
    other = RepositoryKeys.generate("other.example.org")
    return "ls", FQRN, "--public-key", desk.file("other.pub", other.public_key)


def _no_public_key(desk: Desk) -> Words:
    (desk.home / "config.toml").unlink()
    return "ls", desk.home / "store" / FQRN


# -- stores ------------------------------------------------------------------------------------------------------------


def _quickly(desk: Desk) -> None:
    """Retries as often, but without waiting."""
    desk.monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.0)


def _bucket(desk: Desk) -> str:
    """A bucket that there is."""
    return f"s3://{BUCKET}?endpoint={desk.s3.endpoint}"


def _create_in(desk: Desk, store: str) -> Words:
    _quickly(desk)
    return "create", FQRN, store, *desk.keys


def _missing_bucket(desk: Desk) -> Words:
    desk.configure(f"s3://not-there?endpoint={desk.s3.endpoint}")
    return _publish(desk, "tool.tar", _archive())


def _no_credentials(desk: Desk) -> Words:
    store = _bucket(desk)
    for name in desk.s3.environment():
        if "KEY" in name:
            desk.monkeypatch.delenv(name)
    return _create_in(desk, store)


def _wrong_secret(desk: Desk) -> Words:
    store = _bucket(desk)
    desk.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    return _create_in(desk, store)


def _unknown_access_key(desk: Desk) -> Words:
    store = _bucket(desk)
    desk.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    return _create_in(desk, store)


def _with_credentials(desk: Desk) -> None:
    desk.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    desk.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def _wrong_region(desk: Desk) -> Words:
    _with_credentials(desk)
    body = b"<Error><Code>PermanentRedirect</Code><Message>The bucket is elsewhere.</Message></Error>"
    url = desk.serve((301, {"x-amz-bucket-region": "eu-central-1"}, body))
    return _create_in(desk, f"s3://{BUCKET}?endpoint={url}&region=us-east-1")


def _s3_html(desk: Desk) -> Words:
    _with_credentials(desk)
    return _create_in(desk, f"s3://{BUCKET}?endpoint={desk.serve(HTML)}")


def _s3_listing_html(desk: Desk) -> Words:
    _with_credentials(desk)
    desk.configure(f"s3://{BUCKET}?endpoint={desk.serve((204, {}, b''), HTML)}")
    return "destroy", FQRN, "--yes"


def _no_profile(desk: Desk) -> Words:
    desk.monkeypatch.setenv("AWS_PROFILE", "nobody")
    return "create", FQRN, f"s3://{BUCKET}", *desk.keys


def _s3_refused(desk: Desk) -> Words:
    _with_credentials(desk)
    return _create_in(desk, f"s3://{BUCKET}?endpoint=http://127.0.0.1:1")


def _read_from(desk: Desk, url: str) -> Words:
    _quickly(desk)
    return "ls", f"{url}/{FQRN}", *desk.public_key


def _gzipped(desk: Desk) -> Words:
    body = gzip.compress(desk.store.get(LAYOUT.manifest).data)
    return _read_from(desk, desk.serve((200, {"Content-Encoding": "gzip"}, body)))


def _file_as_store(desk: Desk) -> Words:
    desk.file("file", b"")
    return "create", FQRN, desk.home / "file", *desk.keys


def _below_a_file(desk: Desk) -> Words:
    return "publish", f"{FQRN}:/README/more", desk.file("tool.tar", _archive())


def _tag_exists(_: Desk) -> Words:
    return "tag", "add", FQRN, "v1"


def _broken_configuration(desk: Desk) -> Words:
    desk.file("config.toml", b"[repositories\n")
    return "ls", FQRN


def _unknown_setting(desk: Desk) -> Words:
    desk.file("config.toml", f'[repositories."{FQRN}"]\nstor = "/somewhere"\n'.encode())
    return "ls", FQRN


def _mount_nowhere(desk: Desk) -> Words:
    return "mount", FQRN, desk.home / "not" / "there", "--foreground"


TABLE: dict[str, list[Case]] = {
    "What is published": [
        Case("an archive is cut off", 1, lambda desk: _publish(desk, "tool.tar.gz", gzip.compress(_archive())[:60])),
        Case("an archive ends before its file does", 1, lambda desk: _publish(desk, "tool.tar", _archive()[:2000])),
        Case("an archive's check sum is wrong", 1, _lying),
        Case("a file is no archive", 1, lambda desk: _publish(desk, "notes.txt", b"These are notes.\n" * 100)),
        Case("a file is empty", 1, lambda desk: _publish(desk, "empty.tar", b"")),
        Case("an archive leads out of the directory", 1, lambda desk: _publish(desk, "a.tar", _archive("../passwd"))),
        Case("a source does not exist", 1, lambda _: ("publish", FQRN, "nothing.tar")),
        Case("the path lies below a file", 1, _below_a_file),
        Case("the tag is there already", 1, _tag_exists),
    ],
    "Names and paths": [
        Case("a name has no dot", 2, lambda desk: ("create", "software", desk.home / "new", *desk.keys)),
        Case("a verb is mistyped", 2, lambda _: ("publsh", FQRN, "tool.tar")),
        Case("an option is missing", 2, lambda _: ("publish", FQRN)),
        Case("the repository is not configured", 1, lambda _: ("ls", "cms.cern.ch")),
        Case("the repository's name is mistyped", 1, lambda _: ("ls", "tset.example.org")),
        Case("a path has no slash", 2, lambda _: ("ls", f"{FQRN}:bin")),
        Case("there is no such path", 2, lambda _: ("cat", f"{FQRN}:/bin/tol")),
        Case("there is nothing like that path", 2, lambda _: ("ls", f"{FQRN}:/some/where")),
        Case("a directory is asked for as a file", 1, lambda _: ("cat", f"{FQRN}:/bin")),
        Case("there is no such tag", 2, lambda _: ("ls", f"{FQRN}@v2")),
        Case("there is no such revision", 2, lambda _: ("ls", f"{FQRN}@99")),
        Case("there was no revision then", 2, lambda _: ("ls", f"{FQRN}@1999-12-31")),
        Case("an old revision shall be changed", 2, lambda _: ("rm", f"{FQRN}@1:/README")),
        Case("what shall be removed is not there", 1, lambda _: ("rm", f"{FQRN}:/nothing")),
        Case("the tag that shall be removed is not there", 1, lambda _: ("tag", "remove", FQRN, "v2")),
        Case("the repository exists already", 2, lambda desk: ("create", FQRN, desk.home / "store", *desk.keys)),
        Case("a repository is destroyed in passing", 2, lambda _: ("destroy", FQRN)),
    ],
    "Keys": [
        Case("key files are missing", 6, _missing_keys),
        Case("the keys are another repository's", 4, _other_keys),
        Case("a key file holds no key", 4, _broken_key),
        Case("key and certificate do not belong together", 4, _mixed_keys),
        Case("the master key is elsewhere", 6, _no_master_key),
        Case("no public key is known", 2, _no_public_key),
        Case("the public key file does not exist", 6, lambda _: ("ls", FQRN, "--public-key", "missing.pub")),
        Case("the public key is another repository's", 4, _wrong_public_key),
    ],
    "What is stored": [
        Case("an object is damaged", 4, lambda d: _damaged(d, _object_of(d, b"/README"), "cat", f"{FQRN}:/README")),
        Case("an object is missing", 5, lambda d: _lost(d, _object_of(d, b"/README"), "cat", f"{FQRN}:/README")),
        Case("a catalog is damaged", 4, lambda desk: _damaged(desk, _root_of(desk), "ls", FQRN)),
        Case("a catalog is missing", 5, lambda desk: _lost(desk, _root_of(desk), "ls", FQRN)),
        Case("the manifest is none", 4, _garbage),
        Case("the manifest was changed by others", 4, _forged),
        Case("the manifest is another repository's", 4, _of_another),
        Case("the manifest is missing", 1, lambda desk: _lost(desk, LAYOUT.manifest, "ls", FQRN)),
        Case("the whitelist has expired", 4, _expired),
        Case("the whitelist is missing", 1, lambda desk: _lost(desk, LAYOUT.whitelist, "ls", FQRN)),
        Case("the whitelist is damaged", 4, lambda desk: _damaged(desk, LAYOUT.whitelist, "ls", FQRN)),
        Case("the repository's format is newer than this program", 5, _newer_format),
    ],
    "Stores and servers": [
        Case("the bucket does not exist", 5, _missing_bucket),
        Case("there are no credentials", 5, _no_credentials),
        Case("the secret key is wrong", 5, _wrong_secret),
        Case("the access key is not known", 5, _unknown_access_key),
        Case("the AWS profile does not exist", 2, _no_profile),
        Case("the bucket is in another region", 5, _wrong_region),
        Case("the S3 endpoint refuses connections", 5, _s3_refused),
        Case("the S3 endpoint answers with a web page", 5, _s3_html),
        Case("the S3 endpoint lists a web page", 5, _s3_listing_html),
        Case("the web server refuses connections", 5, lambda desk: _read_from(desk, "http://127.0.0.1:1")),
        Case("the host's name is not known", 5, lambda desk: _read_from(desk, "http://no-such-host.invalid")),
        Case("the web server answers with a web page", 4, lambda desk: _read_from(desk, desk.serve(HTML))),
        Case("the web server does not have it", 1, lambda desk: _read_from(desk, desk.serve((404, {}, b"")))),
        Case("the web server redirects", 5, lambda d: _read_from(d, d.serve((302, {"Location": "/login"}, b"")))),
        Case("the web server, or a proxy, compresses", 5, _gzipped),
        Case("the web server is in trouble", 5, lambda desk: _read_from(desk, desk.serve((503, {}, b"")))),
        Case("a web server shall be written to", 5, lambda desk: _create_in(desk, desk.serve((404, {}, b"")))),
        Case("the store's URL is none", 2, lambda desk: ("create", FQRN, "ftp://host/software", *desk.keys)),
        Case("the store's URL has an unknown option", 2, lambda desk: ("create", FQRN, "s3://b?zone=1", *desk.keys)),
        Case("the store's directory is a file", 5, _file_as_store),
    ],
    "This machine": [
        Case("the mount point does not exist", 1, _mount_nowhere),
        Case("nothing is mounted there", 1, lambda desk: ("umount", desk.home)),
        Case("the configuration cannot be read", 2, _broken_configuration),
        Case("the configuration has an unknown setting", 2, _unknown_setting),
    ],
}
