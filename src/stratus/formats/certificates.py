"""Certificates and public keys: fingerprints, and the two signature schemes of ``signed`` documents.

A certificate is only the container of a public key: names, dates and chain mean nothing. A manifest is signed by the
key of the certificate with RSASSA-PKCS1-v1_5 and SHA-1 over the text of the hash, whatever the repository's
algorithm; a whitelist by the master key with PKCS#1 v1.5 padding around the text itself, without a DigestInfo.
Source: ``cvmfs/crypto/signature.cc``.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import zlib
from types import ModuleType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

from stratus.errors import BadFormat, BadSignature
from stratus.formats.hashes import Algorithm, Digest
from stratus.formats.signed import Signed

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_PEM_OF_KEY = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----\s*")
_VERSION = 0xA0  # the tag of the one field of a certificate that may be absent before the key
_BEFORE_KEY = 5  # fields: serial number, algorithm, issuer, validity, subject
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # the AlgorithmIdentifier of an RSA key (RFC 3279, 2.3.1)
_NO_BITS_UNUSED = b"\0"
_INTEGER, _BIT_STRING, _SEQUENCE = 0x02, 0x03, 0x30  # tags
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
    return algorithm.digest(_der(pem))


@functools.lru_cache(maxsize=8)  # a follower asks for the same one again and again
def public_key(certificate_pem: bytes) -> RSAPublicKey:
    """The key in a certificate. Raises BadFormat unless it is an RSA key."""
    try:
        info = _key_info(_der(certificate_pem))
        key = _rsa_key(info) or _serialization().load_der_public_key(info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFormat(f"a certificate with a bad key: {error}") from error
    if not isinstance(key, RSAPublicKey):
        raise BadFormat("a certificate whose key is not an RSA key")
    return key


def load_public_key(pem: bytes) -> RSAPublicKey:
    """A master key from its PEM (``<fqrn>.pub``). Raises BadFormat unless it is an RSA key."""
    try:
        found = _PEM_OF_KEY.fullmatch(pem)
        key = _rsa_key(base64.b64decode(b"".join(found[1].split()))) if found else None
        key = key or _serialization().load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFormat("not a public key in PEM form", hint="give the repository's .pub file") from error
    if not isinstance(key, RSAPublicKey):
        raise BadFormat("a public key that is not an RSA key", hint="give the repository's .pub file")
    return key


def verify_manifest_signature(document: Signed, key: RSAPublicKey) -> None:
    """Raises BadSignature unless the hash line is the body's and was signed with the scheme of manifests."""
    if not document.is_intact:
        raise BadSignature(
            "the manifest was changed after it was signed: its hash is another one",
            hint="it was damaged in the store, or something on the way changes it",
        )
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


def _der(pem: bytes) -> bytes:
    found = _PEM.search(pem)
    try:
        if found is not None:
            return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise BadFormat(f"not a certificate in PEM form: {error}") from error
    raise BadFormat("not a certificate in PEM form")


# A reader wants RSA keys and nothing else, for which ``x509`` and ``serialization`` of ``cryptography`` take longer to
# import than everything else in it.
def _rsa_key(info: bytes) -> RSAPublicKey | None:
    """The key of a SubjectPublicKeyInfo (RFC 3279, 2.3.1); None if it is of another kind, or not in its only DER form.

    Raises ValueError.
    """
    _, at, _ = _element(info, 0)
    if info[at : at + len(_RSA)] != _RSA:
        return None
    _, at, _ = _element(info, at + len(_RSA))
    _, at, _ = _element(info, at + len(_NO_BITS_UNUSED))
    _, at, middle = _element(info, at)
    _, start, end = _element(info, middle)
    modulus, exponent = int.from_bytes(info[at:middle], "big"), int.from_bytes(info[start:end], "big")
    pair = _packed(_SEQUENCE, _integer(modulus) + _integer(exponent))
    if info != _packed(_SEQUENCE, _RSA + _packed(_BIT_STRING, _NO_BITS_UNUSED + pair)):
        return None
    return RSAPublicNumbers(exponent, modulus).public_key()


def _integer(number: int) -> bytes:
    return _packed(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _packed(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (length if size < 0x80 else bytes([0x80 + len(length)]) + length) + content


def _serialization() -> ModuleType:
    """For keys in forms that are rare."""
    from cryptography.hazmat.primitives import serialization

    return serialization


def _key_info(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate (RFC 5280, 4.1). Raises ValueError for what is none."""
    _, start, end = _element(der, 0)
    if end != len(der):
        raise ValueError("it is cut off, or has a tail")
    _, at, _ = _element(der, start)
    tag, _, end = _element(der, at)
    at = end if tag == _VERSION else at
    for _ in range(_BEFORE_KEY):
        _, _, at = _element(der, at)
    return der[at : _element(der, at)[2]]


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the DER element at a position, and where its content begins and ends."""
    header = der[at : at + 2]
    if len(header) < 2:
        raise ValueError("it is cut off")
    tag, size = header
    start = at + 2
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(der[at + 2 : start], "big")
    return tag, start, start + size
