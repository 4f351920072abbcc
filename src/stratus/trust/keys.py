"""The keys of a repository: what its owner signs manifests and whitelists with.

On disk as the stock tools keep them: ``<fqrn>.crt`` and ``.key`` (certificate and its private key, for manifests),
``.pub`` and ``.masterkey`` (master key, for whitelists). The master key may be elsewhere, so that a machine that
publishes cannot prolong its own right to do so. The schemes are in ``stratus.formats.certificates``.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

from stratus.errors import BadFormat, NotPermitted, UsageError, WrongName
from stratus.formats import certificates, signed
from stratus.formats.compression import Compression
from stratus.formats.hashes import Algorithm, ObjectId, Suffix
from stratus.formats.manifest import Manifest
from stratus.formats.paths import check_fqrn
from stratus.formats.whitelist import Whitelist

WHITELIST_DAYS = 30
_CERTIFICATE_DAYS = 365
_KEY_BITS = 2048
_PUBLIC_EXPONENT = 65537
_PAIR = "files of different keys are mixed up in that directory: restore those that were made together"


@dataclass(frozen=True, slots=True)
class RepositoryKeys:
    """The keys of one repository.

    Attributes:
        fqrn: its name.
        certificate: PEM.
        public_key: PEM of the master key's public half: what clients trust.
    """

    fqrn: str
    certificate: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    _key: RSAPrivateKey = field(repr=False, compare=False)
    _master_key: RSAPrivateKey | None = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _belong(self._key, certificates.public_key(self.certificate)):
            raise BadFormat(f"the private key of {self.fqrn} does not belong to its certificate", hint=_PAIR)
        if self._master_key and not _belong(self._master_key, certificates.load_public_key(self.public_key)):
            raise BadFormat(f"the master key of {self.fqrn} does not belong to its public key", hint=_PAIR)

    @classmethod
    def generate(cls, fqrn: str) -> Self:
        """New keys, RSA with 2048 bits, and a self-signed certificate for 365 days. Raises BadName."""
        check_fqrn(fqrn)
        key, master_key = (rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS) for _ in range(2))
        public_key = master_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(fqrn, _self_signed(fqrn, key), public_key, key, master_key)

    @classmethod
    def load(cls, directory: Path, fqrn: str) -> Self:
        """From files. Raises NotPermitted where they are missing or unreadable, BadFormat where they do not fit."""
        check_fqrn(fqrn)
        certificate, key, public_key = (_read(directory / f"{fqrn}{suffix}") for suffix in (".crt", ".key", ".pub"))
        master_file = directory / f"{fqrn}.masterkey"
        return cls.parse(fqrn, certificate, key, public_key, _read(master_file) if master_file.exists() else None)

    @classmethod
    def parse(cls, fqrn: str, certificate: bytes, key: bytes, public_key: bytes, master_key: bytes | None) -> Self:
        """From PEM. Raises BadFormat where they do not fit, NotPermitted where they are encrypted."""
        master = None if master_key is None else _private_key(master_key, fqrn)
        return cls(fqrn, certificate, public_key, _private_key(key, fqrn), master)

    def save(self, directory: Path) -> None:
        """Writes the files, private ones with mode 0600; the same keys may be saved again.

        Raises UsageError, and writes nothing, if there are other keys of that name.
        """
        files = {
            directory / f"{self.fqrn}.key": (_pem(self._key), 0o600),
            directory / f"{self.fqrn}.crt": (self.certificate, 0o644),
            directory / f"{self.fqrn}.pub": (self.public_key, 0o644),
        }
        if self._master_key is not None:
            files[directory / f"{self.fqrn}.masterkey"] = (_pem(self._master_key), 0o600)
        try:
            for file, (data, _) in files.items():
                if file.exists() and _normal(file.read_bytes()) != _normal(data):
                    raise UsageError(
                        f"{file} holds another key",
                        hint="keys are never overwritten: use another directory, or move the old ones away",
                    )
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file, (data, mode) in files.items():
                if not file.exists():
                    _write(file, data, mode)
        except OSError as error:
            raise NotPermitted(
                f"cannot keep keys in {directory}: {error.strerror}", hint="use a directory that is yours to write"
            ) from error

    @property
    def private_key(self) -> RSAPrivateKey:
        """The certificate's: signs what is sent in the name of the repository."""
        return self._key

    @property
    def has_master(self) -> bool:
        """Whether whitelists can be signed here."""
        return self._master_key is not None

    def certificate_object(self, algorithm: Algorithm) -> tuple[ObjectId, bytes]:
        """Name and bytes of the certificate object: always zlib, as replicas compress it again."""
        stored = Compression.ZLIB.pack(self.certificate)
        return ObjectId(algorithm.digest(stored), Suffix.CERTIFICATE), stored

    def sign_manifest(self, manifest: Manifest) -> bytes:
        """The whole ``.cvmfspublished``. Raises WrongName, or BadFormat if it names another certificate."""
        self._check_name("manifest", manifest.fqrn)
        if manifest.certificate != self.certificate_object(manifest.certificate.algorithm)[0].digest:
            raise BadFormat("a manifest that names another certificate cannot be signed with this one's key")
        body = manifest.body()
        digest = manifest.root.algorithm.digest(body)
        signature = _sign(self._key, str(digest).encode(), hashes.SHA1())
        return signed.join(body, digest, signature)

    def sign_whitelist(self, whitelist: Whitelist, algorithm: Algorithm) -> bytes:
        """The whole ``.cvmfswhitelist``. Raises NotPermitted without the master key, WrongName."""
        self._check_name("whitelist", whitelist.fqrn)
        if self._master_key is None:
            raise NotPermitted(
                f"the master key of {self.fqrn} is not here, so its whitelist cannot be signed",
                hint=f"run this where {self.fqrn}.masterkey is, or put it beside {self.fqrn}.key",
            )
        body = whitelist.body()
        digest = algorithm.digest(body)
        signature = _sign(self._master_key, str(digest).encode(), NoDigestInfo())
        return signed.join(body, digest, signature)

    def new_whitelist(self, now: datetime, algorithm: Algorithm, days: int = WHITELIST_DAYS) -> Whitelist:
        """A whitelist of this certificate alone, from ``now`` (aware) on."""
        issued = now.astimezone(UTC).replace(microsecond=0)
        listed = (certificates.fingerprint(self.certificate, algorithm),)
        return Whitelist(self.fqrn, issued, issued + timedelta(days=days), listed)

    def _check_name(self, what: str, fqrn: str) -> None:
        if fqrn != self.fqrn:
            raise WrongName(f"a {what} of {fqrn!r} cannot be signed with the keys of {self.fqrn!r}")


def _self_signed(fqrn: str, key: RSAPrivateKey) -> bytes:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    label = fqrn if len(fqrn) <= 30 else f"{fqrn[:30]}[...]"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{label} CernVM-FS Release Managers")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now,
        not_valid_after=now + timedelta(days=_CERTIFICATE_DAYS),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _sign(key: RSAPrivateKey, text: bytes, scheme: hashes.SHA1 | NoDigestInfo) -> bytes:
    """A signature that holds: a key that was damaged makes others."""
    signature = key.sign(text, padding.PKCS1v15(), scheme)
    try:
        key.public_key().verify(signature, text, padding.PKCS1v15(), scheme)  # type: ignore[arg-type]  # NoDigestInfo, too
    except InvalidSignature as error:
        raise BadFormat("a private key is damaged", hint="restore the .key or .masterkey file from a copy") from error
    return signature


def _belong(key: RSAPrivateKey, public_key: RSAPublicKey) -> bool:
    return key.public_key().public_numbers() == public_key.public_numbers()


def _pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _normal(pem: bytes) -> bytes:
    """One form for equal private keys (PKCS#1 or PKCS#8); whatever else as it is."""
    try:
        return _pem(_private_key(pem, ""))
    except (BadFormat, NotPermitted):
        return pem


def _private_key(pem: bytes, fqrn: str) -> RSAPrivateKey:
    try:
        # Looking whether the primes are prime takes 50 ms; what is signed is verified instead.
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise NotPermitted(f"a private key of {fqrn} is encrypted", hint="decrypt it with `openssl rsa`") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFormat(
            f"a private key of {fqrn} is not in PEM form", hint="restore the .key or .masterkey file from a copy"
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise BadFormat(f"a private key of {fqrn} is not an RSA key", hint="the stock tools know no others")
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotPermitted(
            f"cannot read {file}: {error.strerror}",
            hint="give the directory that has the repository's .crt, .key and .pub files",
        ) from error


def _write(file: Path, data: bytes, mode: int) -> None:
    """Writes a file that appears whole or not at all, with ``mode`` from the start."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.link(temporary, file)
    finally:
        Path(temporary).unlink()
