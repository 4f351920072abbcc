from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from msgspec.structs import replace

from stratus.errors import BadFormat, BadHash, BadSignature, Expired, RolledBack, Untrusted, WrongName
from stratus.formats import certificates, signed
from stratus.formats.hashes import Algorithm, Digest, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.trusted import Seen, TrustedMetadata, verify_manifest
from stratus.trust.keys import RepositoryKeys
from tests import stock

FQRN = "a.example.org"
NOW = stock.CLOCK
ROOT = Algorithm.SHA1.digest(b"root")
ATTACKER = RepositoryKeys.generate(FQRN)
OWNER = RepositoryKeys.generate(FQRN)


class Chain(msgspec.Struct, frozen=True):
    """What a server shows, and what the client starts from."""

    manifest: bytes
    certificate: bytes
    whitelist: bytes
    public_keys: tuple[bytes, ...] = (OWNER.public_key,)
    seen: Seen | None = None

    def verify(self) -> Manifest:
        trusted = TrustedMetadata(FQRN, self.public_keys, NOW, self.seen)
        trusted.set_manifest(self.manifest)
        trusted.set_certificate(self.certificate)
        trusted.set_whitelist(self.whitelist)
        return trusted.manifest


def manifest_of(keys: RepositoryKeys, algorithm: Algorithm = Algorithm.SHA1) -> Manifest:
    name, _ = keys.certificate_object(algorithm)
    return Manifest(algorithm.digest(b"root"), 1, 240, 17, FQRN, name.digest, 1_700_000_000)


def chain_of(keys: RepositoryKeys, algorithm: Algorithm = Algorithm.SHA1) -> Chain:
    return Chain(
        keys.sign_manifest(manifest_of(keys, algorithm)),
        keys.certificate_object(algorithm)[1],
        keys.sign_whitelist(keys.new_whitelist(NOW, algorithm), algorithm),
    )


GOOD = chain_of(OWNER)


def with_whitelist(*fingerprints: Digest) -> Chain:
    """The good chain, but the owner's whitelist lists these."""
    listed = replace(OWNER.new_whitelist(NOW, Algorithm.SHA1), fingerprints=fingerprints)
    return replace(GOOD, whitelist=OWNER.sign_whitelist(listed, Algorithm.SHA1))


def signed_with(data: bytes, key: RSAPrivateKey | None, algorithm: hashes.HashAlgorithm | NoDigestInfo) -> bytes:
    """The document, signed again by another scheme."""
    assert key is not None
    document = signed.split(data)
    return signed.join(document.body, document.digest, key.sign(document.text, padding.PKCS1v15(), algorithm))


@pytest.mark.parametrize("name", stock.NAMES)
def test_what_the_stock_tools_signed_is_trusted(name: str, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path)
    trusted = TrustedMetadata(repository.fqrn, [repository.public_key], NOW)
    manifest = trusted.set_manifest(repository.read(".cvmfspublished"))
    trusted.set_certificate(repository.stored(ObjectId(manifest.certificate, Suffix.CERTIFICATE)))
    assert trusted.set_whitelist(repository.read(".cvmfswhitelist")).fqrn == repository.fqrn
    assert trusted.manifest == manifest


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_we_sign_is_trusted_in_every_algorithm(algorithm: Algorithm) -> None:
    assert chain_of(OWNER, algorithm).verify() == manifest_of(OWNER, algorithm)


def test_any_one_of_several_public_keys_will_do() -> None:
    assert replace(GOOD, public_keys=(ATTACKER.public_key, OWNER.public_key)).verify()


def test_nothing_is_trusted_without_public_keys() -> None:
    with pytest.raises(BadSignature):
        replace(GOOD, public_keys=()).verify()


def test_nothing_is_trusted_before_all_three_were_accepted() -> None:
    trusted = TrustedMetadata(FQRN, [OWNER.public_key], NOW)
    steps: list[Callable[[], object]] = [
        lambda: trusted.set_manifest(GOOD.manifest),
        lambda: trusted.set_certificate(GOOD.certificate),
        lambda: trusted.set_whitelist(GOOD.whitelist),
    ]
    for done, step in enumerate(steps):
        for other in steps[:done] + steps[done + 1 :]:
            with pytest.raises(Untrusted):
                other()
        with pytest.raises(Untrusted):
            _ = trusted.manifest
        step()
    assert trusted.manifest == manifest_of(OWNER)
    for step in steps:
        with pytest.raises(Untrusted):
            step()


def test_after_a_certificate_that_was_refused_no_whitelist_is_taken() -> None:
    trusted = TrustedMetadata(FQRN, [OWNER.public_key], NOW)
    trusted.set_manifest(GOOD.manifest)
    with pytest.raises(BadHash):
        trusted.set_certificate(ATTACKER.certificate_object(Algorithm.SHA1)[1])
    with pytest.raises(Untrusted):
        trusted.set_whitelist(GOOD.whitelist)
    with pytest.raises(Untrusted):
        _ = trusted.manifest


# -- rollback and freeze ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [Seen(18, 1_700_000_000), Seen(17, 1_700_000_001), Seen(1, 1_700_000_001)])
def test_an_older_revision_or_time_than_was_seen_is_refused(seen: Seen) -> None:
    with pytest.raises(RolledBack):
        replace(GOOD, seen=seen).verify()


@pytest.mark.parametrize("seen", [Seen(17, 1_700_000_000), Seen(16, 1_600_000_000)])
def test_what_stands_still_or_moves_forwards_is_accepted(seen: Seen) -> None:
    assert replace(GOOD, seen=seen).verify().revision == 17


def test_a_whitelist_that_ran_out_freezes_nobody() -> None:
    old = OWNER.new_whitelist(NOW - timedelta(days=30), Algorithm.SHA1)
    with pytest.raises(Expired):
        replace(GOOD, whitelist=OWNER.sign_whitelist(old, Algorithm.SHA1)).verify()


# -- forgery ----------------------------------------------------------------------------------------------------------


def test_every_changed_byte_of_a_manifest_is_noticed() -> None:
    for position in range(len(GOOD.manifest)):
        forged = bytearray(GOOD.manifest)
        forged[position] ^= 1
        with pytest.raises(Untrusted):
            replace(GOOD, manifest=bytes(forged)).verify()


def test_every_changed_byte_of_a_whitelist_is_noticed() -> None:
    for position in range(len(GOOD.whitelist)):
        forged = bytearray(GOOD.whitelist)
        forged[position] ^= 1
        with pytest.raises(Untrusted):
            replace(GOOD, whitelist=bytes(forged)).verify()


@pytest.mark.parametrize("cut", [1, 255, 256, 257])
def test_signatures_that_are_cut_off_or_have_a_tail_are_refused(cut: int) -> None:
    for data in (GOOD.manifest[:-cut], GOOD.manifest + bytes(cut)):
        with pytest.raises(Untrusted):
            replace(GOOD, manifest=data).verify()
    for data in (GOOD.whitelist[:-cut], GOOD.whitelist + bytes(cut)):
        with pytest.raises(Untrusted):
            replace(GOOD, whitelist=data).verify()


def test_a_body_with_a_new_hash_line_but_the_old_signature_is_refused() -> None:
    document = signed.split(GOOD.manifest)
    body = replace(manifest_of(OWNER), revision=18).body()
    with pytest.raises(BadSignature):
        replace(GOOD, manifest=signed.join(body, Algorithm.SHA1.digest(body), document.signature)).verify()
    with pytest.raises(BadSignature, match="changed after it was signed"):
        replace(GOOD, manifest=signed.join(body, document.digest, document.signature)).verify()


def test_a_certificate_of_ones_own_is_not_listed() -> None:
    forged = chain_of(ATTACKER)
    with pytest.raises(BadSignature, match="does not list"):
        replace(forged, whitelist=GOOD.whitelist).verify()


def test_a_whitelist_of_ones_own_is_not_signed_by_the_master_key() -> None:
    with pytest.raises(BadSignature, match="not signed by a key"):
        chain_of(ATTACKER).verify()


def test_a_manifest_of_ones_own_that_names_the_listed_certificate_is_refused() -> None:
    name = OWNER.certificate_object(Algorithm.SHA1)[0].digest
    body = replace(manifest_of(ATTACKER), certificate=name).body()
    unsigned = signed.join(body, Algorithm.SHA1.digest(body), b"?")
    with pytest.raises(BadSignature):
        replace(GOOD, manifest=signed_with(unsigned, ATTACKER._key, hashes.SHA1())).verify()


def test_other_certificate_bytes_than_the_manifest_names_are_refused() -> None:
    for stored in (
        ATTACKER.certificate_object(Algorithm.SHA1)[1],
        zlib.compress(OWNER.certificate, 1),
        OWNER.certificate,
    ):
        with pytest.raises(BadHash):
            replace(GOOD, certificate=stored).verify()


def test_a_certificate_object_that_is_none_is_refused() -> None:
    stored = zlib.compress(b"no certificate")
    body = replace(manifest_of(OWNER), certificate=Algorithm.SHA1.digest(stored)).body()
    unsigned = signed.join(body, Algorithm.SHA1.digest(body), b"?")
    with pytest.raises(BadFormat):
        replace(GOOD, manifest=signed_with(unsigned, OWNER._key, hashes.SHA1()), certificate=stored).verify()


# -- the schemes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [NoDigestInfo(), hashes.SHA256()])
def test_a_manifest_that_was_signed_by_another_scheme_is_refused(scheme: hashes.HashAlgorithm | NoDigestInfo) -> None:
    with pytest.raises(BadSignature):
        replace(GOOD, manifest=signed_with(GOOD.manifest, OWNER._key, scheme)).verify()


@pytest.mark.parametrize("scheme", [hashes.SHA1(), hashes.SHA256()])
def test_a_whitelist_that_was_signed_by_another_scheme_is_refused(scheme: hashes.HashAlgorithm) -> None:
    with pytest.raises(BadSignature):
        replace(GOOD, whitelist=signed_with(GOOD.whitelist, OWNER._master_key, scheme)).verify()


def test_the_repository_key_cannot_sign_whitelists_nor_the_master_key_manifests() -> None:
    with pytest.raises(BadSignature):
        replace(GOOD, whitelist=signed_with(GOOD.whitelist, OWNER._key, NoDigestInfo())).verify()
    with pytest.raises(BadSignature):
        replace(GOOD, manifest=signed_with(GOOD.manifest, OWNER._master_key, hashes.SHA1())).verify()


def test_an_md5_hash_line_is_refused() -> None:
    document = signed.split(GOOD.manifest)
    data = document.body + b"--\nd41d8cd98f00b204e9800998ecf8427e\n" + document.signature
    with pytest.raises(BadFormat):
        replace(GOOD, manifest=data).verify()


# -- names and fingerprints -------------------------------------------------------------------------------------------


def test_another_repositorys_documents_are_refused() -> None:
    trusted = TrustedMetadata("b.example.org", [OWNER.public_key], NOW)
    with pytest.raises(WrongName):
        trusted.set_manifest(GOOD.manifest)
    other = RepositoryKeys("b.example.org", OWNER.certificate, OWNER.public_key, OWNER._key, OWNER._master_key)
    whitelist = other.sign_whitelist(other.new_whitelist(NOW, Algorithm.SHA1), Algorithm.SHA1)
    with pytest.raises(WrongName):
        replace(GOOD, whitelist=whitelist).verify()


def test_no_fingerprint_no_trust() -> None:
    for fingerprints in ((), (certificates.fingerprint(ATTACKER.certificate, Algorithm.SHA1),)):
        with pytest.raises(BadSignature):
            with_whitelist(*fingerprints).verify()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_fingerprint_may_be_of_another_algorithm_than_the_repository(algorithm: Algorithm) -> None:
    listed = certificates.fingerprint(OWNER.certificate, algorithm)
    assert with_whitelist(certificates.fingerprint(ATTACKER.certificate, algorithm), listed).verify()


@pytest.mark.parametrize("algorithm", [Algorithm.RIPEMD160, Algorithm.SHAKE128])
def test_the_digits_of_one_algorithm_mean_nothing_in_another(algorithm: Algorithm) -> None:
    right = certificates.fingerprint(OWNER.certificate, algorithm)
    with pytest.raises(BadSignature):
        with_whitelist(Digest(Algorithm.SHA1, right.raw)).verify()
    sha1 = certificates.fingerprint(OWNER.certificate, Algorithm.SHA1)
    with pytest.raises(BadSignature):
        with_whitelist(Digest(algorithm, sha1.raw)).verify()


def test_a_fingerprint_of_the_pem_form_is_not_one() -> None:
    with pytest.raises(BadSignature):
        with_whitelist(Algorithm.SHA1.digest(OWNER.certificate)).verify()


# -- owners -----------------------------------------------------------------------------------------------------------


def test_an_owner_verifies_with_the_certificate_alone() -> None:
    assert verify_manifest(GOOD.manifest, OWNER.certificate, FQRN) == manifest_of(OWNER)
    with pytest.raises(BadSignature):
        verify_manifest(GOOD.manifest, ATTACKER.certificate, FQRN)
    with pytest.raises(WrongName):
        verify_manifest(GOOD.manifest, OWNER.certificate, "b.example.org")


def test_a_public_key_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(BadFormat):
        TrustedMetadata(FQRN, [OWNER.public_key, OWNER.certificate], NOW)
