from __future__ import annotations

import shutil
import stat
import subprocess
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stratus.errors import BadFormat, BadName, NotPermitted, UsageError, WrongName
from stratus.formats import signed
from stratus.formats.hashes import Algorithm, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.trusted import TrustedMetadata
from stratus.formats.whitelist import Whitelist
from stratus.trust.keys import RepositoryKeys
from tests import stock

FQRN = "a.example.org"
KEYS = RepositoryKeys.generate(FQRN)
OTHER = RepositoryKeys.generate(FQRN)
NOW = stock.CLOCK


def manifest_of(keys: RepositoryKeys) -> Manifest:
    name, _ = keys.certificate_object(Algorithm.SHA1)
    return Manifest(Algorithm.SHA1.digest(b"root"), 1, 240, 1, FQRN, name.digest, 1_700_000_000)


def trusts(keys: RepositoryKeys, manifest: bytes, whitelist: bytes) -> bool:
    trusted = TrustedMetadata(FQRN, [keys.public_key], NOW)
    trusted.set_manifest(manifest)
    trusted.set_certificate(keys.certificate_object(Algorithm.SHA1)[1])
    trusted.set_whitelist(whitelist)
    return trusted.manifest == manifest_of(keys)


def test_keys_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    directory = tmp_path / "config" / "keys"
    KEYS.save(directory)
    loaded = RepositoryKeys.load(directory, FQRN)
    assert loaded == KEYS
    assert loaded.has_master
    whitelist = loaded.sign_whitelist(loaded.new_whitelist(NOW, Algorithm.SHA1), Algorithm.SHA1)
    assert trusts(KEYS, loaded.sign_manifest(manifest_of(KEYS)), whitelist)


def test_only_the_owner_can_read_private_keys(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {f"{FQRN}.crt": 0o644, f"{FQRN}.pub": 0o644, f"{FQRN}.key": 0o600, f"{FQRN}.masterkey": 0o600}


def test_other_keys_are_never_overwritten(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    KEYS.save(tmp_path)
    with pytest.raises(UsageError, match="holds another key"):
        OTHER.save(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_nothing_is_saved_where_one_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / f"{FQRN}.pub").write_bytes(OTHER.public_key)
    with pytest.raises(UsageError):
        KEYS.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_keys_in_the_form_that_openssl_writes_may_be_saved_again(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    key = KEYS._key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (tmp_path / f"{FQRN}.key").write_bytes(key)
    RepositoryKeys.load(tmp_path, FQRN).save(tmp_path)
    assert (tmp_path / f"{FQRN}.key").read_bytes() == key


def test_a_machine_without_the_master_key_publishes_but_cannot_prolong_its_right_to(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    (tmp_path / f"{FQRN}.masterkey").unlink()
    publisher = RepositoryKeys.load(tmp_path, FQRN)
    assert not publisher.has_master
    assert publisher.sign_manifest(manifest_of(KEYS)) == KEYS.sign_manifest(manifest_of(KEYS))
    with pytest.raises(NotPermitted) as caught:
        publisher.sign_whitelist(publisher.new_whitelist(NOW, Algorithm.SHA1), Algorithm.SHA1)
    assert f"{FQRN}.masterkey" in caught.value.hint


@pytest.mark.parametrize("suffix", ["crt", "key", "pub"])
def test_a_missing_file_is_named(suffix: str, tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    (tmp_path / f"{FQRN}.{suffix}").unlink()
    with pytest.raises(NotPermitted, match=rf"{FQRN}\.{suffix}"):
        RepositoryKeys.load(tmp_path, FQRN)


@pytest.mark.parametrize("suffix", ["crt", "key", "pub", "masterkey"])
def test_files_that_do_not_belong_together_are_refused(suffix: str, tmp_path: Path) -> None:
    KEYS.save(tmp_path / "keys")
    OTHER.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / f"{FQRN}.{suffix}", tmp_path / "keys")
    with pytest.raises(BadFormat, match="does not belong"):
        RepositoryKeys.load(tmp_path / "keys", FQRN)


def test_a_private_key_that_is_none_or_encrypted_is_refused(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    file = tmp_path / f"{FQRN}.key"
    file.write_bytes(b"x")
    with pytest.raises(BadFormat):
        RepositoryKeys.load(tmp_path, FQRN)
    encryption = serialization.BestAvailableEncryption(b"secret")
    file.write_bytes(KEYS._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    with pytest.raises(NotPermitted, match="encrypted"):
        RepositoryKeys.load(tmp_path, FQRN)


@pytest.mark.parametrize("fqrn", ["../a.example.org", "a", ""])
def test_a_name_that_is_none_makes_no_files(fqrn: str, tmp_path: Path) -> None:
    with pytest.raises(BadName):
        RepositoryKeys.generate(fqrn)
    with pytest.raises(BadName):
        RepositoryKeys.load(tmp_path, fqrn)


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotPermitted):
        KEYS.save(tmp_path / "file" / "keys")


def test_the_certificate_is_like_those_of_the_stock_tools() -> None:
    certificate = x509.load_pem_x509_certificate(KEYS.certificate)
    assert certificate.subject == certificate.issuer
    assert certificate.subject.rfc4514_string() == f"CN={FQRN} CernVM-FS Release Managers"
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=365)
    assert len(certificate.extensions) == 0
    long = RepositoryKeys.generate("x" * 50 + ".example")
    name = x509.load_pem_x509_certificate(long.certificate).subject.rfc4514_string()
    assert name == f"CN={'x' * 30}[...] CernVM-FS Release Managers"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_certificate_object_is_always_zlib(algorithm: Algorithm) -> None:
    name, stored = KEYS.certificate_object(algorithm)
    assert stored == zlib.compress(KEYS.certificate)
    assert (name.digest, name.suffix) == (algorithm.digest(stored), Suffix.CERTIFICATE)


def test_a_new_whitelist_lasts_thirty_days() -> None:
    whitelist = KEYS.new_whitelist(NOW.replace(microsecond=5), Algorithm.SHA1)
    assert (whitelist.issued, whitelist.expires) == (NOW, NOW + timedelta(days=30))
    assert KEYS.new_whitelist(NOW, Algorithm.SHA1, days=7).expires == NOW + timedelta(days=7)
    assert Whitelist.parse(KEYS.sign_whitelist(whitelist, Algorithm.SHAKE128)) == whitelist


def test_only_what_clients_could_verify_is_signed() -> None:
    with pytest.raises(BadFormat, match="another certificate"):
        KEYS.sign_manifest(manifest_of(OTHER))
    elsewhere = RepositoryKeys.generate("b.example.org")
    with pytest.raises(WrongName):
        elsewhere.sign_manifest(manifest_of(KEYS))
    with pytest.raises(WrongName):
        elsewhere.sign_whitelist(KEYS.new_whitelist(NOW, Algorithm.SHA1), Algorithm.SHA1)


def test_no_key_is_shown() -> None:
    assert repr(KEYS) == f"RepositoryKeys(fqrn='{FQRN}')"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_verifies_both_schemes(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> bytes:
        command = ["openssl", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout

    KEYS.save(tmp_path)
    manifest = signed.split(KEYS.sign_manifest(manifest_of(KEYS)))
    (tmp_path / "text").write_bytes(manifest.text)
    (tmp_path / "signature").write_bytes(manifest.signature)
    (tmp_path / "public").write_bytes(openssl("x509", "-in", f"{FQRN}.crt", "-noout", "-pubkey"))
    openssl("dgst", "-sha1", "-verify", "public", "-signature", "signature", "text")
    whitelist = signed.split(KEYS.sign_whitelist(KEYS.new_whitelist(NOW, Algorithm.SHA1), Algorithm.SHA1))
    (tmp_path / "signature").write_bytes(whitelist.signature)
    recovered = openssl("pkeyutl", "-verifyrecover", "-pubin", "-inkey", f"{FQRN}.pub", "-in", "signature")
    assert recovered == whitelist.text
