"""Certificates and public keys: fingerprints, and the two signature schemes of ``signed`` documents.

A certificate is only the container of a public key: names, dates and chain mean nothing. A manifest is signed by the
key of the certificate with RSASSA-PKCS1-v1_5 and SHA-1 over the text of the hash, whatever the repository's
algorithm; a whitelist by the master key with PKCS#1 v1.5 padding around the text itself, without a DigestInfo.
Source: ``cvmfs/crypto/signature.cc``.
"""

from __future__ import annotations

import zlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

from stratus.errors import BadFormat, BadSignature
from stratus.formats.hashes import Algorithm, Digest
from stratus.formats.signed import Signed

SIZE_MAX = 1 << 20  # bytes, as for the stock client


def unpack(stored: bytes) -> bytes:
    """The PEM in a certificate object. Raises BadFormat, also when it unfolds to more than SIZE_MAX."""
    stream = zlib.decompressobj()
    try:
        pem = stream.decompress(stored, SIZE_MAX)
    except zlib.error as error:
        raise BadFormat(f"a certificate object that is not zlib: {error}") from error
    if not stream.eof or stream.unused_data:
        raise BadFormat("a certificate object that is cut off, has a tail, or is too large")
    return pem


def fingerprint(pem: bytes, algorithm: Algorithm) -> Digest:
    """The hash of the certificate's DER form. Raises BadFormat."""
    return algorithm.digest(_load(pem).public_bytes(serialization.Encoding.DER))


def public_key(certificate_pem: bytes) -> RSAPublicKey:
    """The key in a certificate. Raises BadFormat unless it is an RSA key."""
    try:
        key = _load(certificate_pem).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFormat(f"a certificate with a bad key: {error}") from error
    if not isinstance(key, RSAPublicKey):
        raise BadFormat("a certificate whose key is not an RSA key")
    return key


def load_public_key(pem: bytes) -> RSAPublicKey:
    """A master key from its PEM (``<fqrn>.pub``). Raises BadFormat unless it is an RSA key."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFormat("not a public key in PEM form", hint="give the repository's .pub file") from error
    if not isinstance(key, RSAPublicKey):
        raise BadFormat("a public key that is not an RSA key", hint="give the repository's .pub file")
    return key


def verify_manifest_signature(document: Signed, key: RSAPublicKey) -> None:
    """Raises BadSignature unless the hash line is the body's and was signed with the scheme of manifests."""
    if not document.is_intact:
        raise BadSignature("the manifest was changed after it was signed: its hash is another one")
    try:
        key.verify(document.signature, document.text, padding.PKCS1v15(), hashes.SHA1())
    except InvalidSignature:
        raise BadSignature("the manifest is not signed by the certificate that it names") from None


def is_whitelist_signature(document: Signed, key: RSAPublicKey) -> bool:
    """Whether the hash line is the body's and was signed by ``key`` with the scheme of whitelists."""
    try:
        text = key.recover_data_from_signature(document.signature, padding.PKCS1v15(), NoDigestInfo())
    except InvalidSignature:
        return False
    return text == document.text and document.is_intact


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadFormat(f"not a certificate in PEM form: {error}") from error
