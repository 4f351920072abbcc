from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stratus.errors import BadFormat
from stratus.formats import certificates, signed
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from tests import stock


def certificate(repository: stock.StockRepository) -> bytes:
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    return certificates.unpack(repository.stored(ObjectId(manifest.certificate, Suffix.CERTIFICATE)))


def test_a_fingerprint_is_the_hash_of_the_der_form(tmp_path: Path) -> None:
    pem = certificate(stock.unpack("sample", tmp_path))
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    assert certificates.fingerprint(pem, Algorithm.SHA1).raw == hashlib.sha1(der).digest()
    assert certificates.fingerprint(pem, Algorithm.SHAKE128).raw == hashlib.shake_128(der).digest(20)


@pytest.mark.parametrize("name", stock.NAMES)
def test_certificate_and_meta_info_objects_are_what_replicas_compress_them_to(name: str, tmp_path: Path) -> None:
    repository = stock.unpack(name, tmp_path)
    manifest = Manifest.parse(repository.read(".cvmfspublished"))
    assert manifest.meta_info is not None
    for digest, suffix in ((manifest.certificate, Suffix.CERTIFICATE), (manifest.meta_info, Suffix.META_INFO)):
        stored = repository.stored(ObjectId(digest, suffix))
        assert zlib.compress(zlib.decompress(stored)) == stored


def test_each_document_has_its_own_scheme(tmp_path: Path) -> None:
    repository = stock.unpack("sample", tmp_path)
    key = certificates.load_public_key(repository.public_key)
    assert certificates.is_whitelist_signature(signed.split(repository.read(".cvmfswhitelist")), key)
    assert not certificates.is_whitelist_signature(signed.split(repository.read(".cvmfspublished")), key)
    assert not certificates.is_whitelist_signature(
        signed.split(repository.read(".cvmfspublished")), certificates.public_key(certificate(repository))
    )


@pytest.mark.parametrize(
    "stored",
    [b"", b"no zlib", zlib.compress(b"x")[:-1], zlib.compress(b"x") + b"x", zlib.compress(bytes(1 << 24))],
    ids=["empty", "foreign", "cut", "tail", "bomb"],
)
def test_a_certificate_object_unfolds_to_little(stored: bytes) -> None:
    with pytest.raises(BadFormat):
        certificates.unpack(stored)


def test_only_rsa_keys_can_have_signed_anything() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(BadFormat):
        certificates.load_public_key(public)
    name = x509.Name([])
    start = stock.CLOCK
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(BadFormat):
        certificates.public_key(pem)


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_pem_is_refused(pem: bytes) -> None:
    for read in (certificates.load_public_key, certificates.public_key):
        with pytest.raises(BadFormat):
            read(pem)
