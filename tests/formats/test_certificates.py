from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

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


@pytest.mark.parametrize("size", [1024, 2048, 3072])
def test_an_rsa_key_is_read_as_the_library_reads_it(size: int) -> None:
    key = rsa.generate_private_key(3 if size == 1024 else 65537, size).public_key()
    forms = serialization.PublicFormat
    for form in (forms.SubjectPublicKeyInfo, forms.PKCS1):
        pem = key.public_bytes(serialization.Encoding.PEM, form)
        assert certificates.load_public_key(pem) == key
        assert certificates.load_public_key(b"\n" + pem.replace(b"\n", b"\r\n")) == key


def test_an_rsa_key_that_is_damaged_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def read(damaged: bytes) -> object:
        return certificates.load_public_key(
            b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(damaged) + b"-----END PUBLIC KEY-----\n"
        )

    assert read(der) == key
    for position in range(len(der)):
        for damaged in (der[:position], der + der[:position] + b"x"):
            with pytest.raises(BadFormat):
                read(damaged)
        flipped = bytearray(der)
        flipped[position] ^= 0x80
        try:
            found = read(bytes(flipped))
        except BadFormat:
            continue
        assert found == serialization.load_der_public_key(bytes(flipped))


def test_reading_an_rsa_key_needs_little_of_the_library(tmp_path: Path) -> None:
    repository = stock.unpack("sample", tmp_path)
    program = f"""
import sys
from stratus.formats import certificates
certificates.load_public_key({repository.public_key!r})
certificates.public_key({certificate(repository)!r})
print([name for name in ("x509", "hazmat.primitives.serialization") if f"cryptography.{{name}}" in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_pem_is_refused(pem: bytes) -> None:
    for read in (certificates.load_public_key, certificates.public_key):
        with pytest.raises(BadFormat):
            read(pem)
