"""From bytes that anybody may have sent to a manifest that can be trusted.

A state machine that is fed with what was fetched, in this order, and does no I/O itself::

    set_manifest     names the repository asked for, is not older than what was seen  -> which certificate to fetch
    set_certificate  the object hashes to that name; its key verifies the manifest
    set_whitelist    names the repository, is signed by a key of ours, has not run out, lists the certificate
    manifest         trusted, only now

What holds:

* Nothing leads to ``manifest`` but all three steps, in order, each once; a step that raised leaves the next one shut.
* The public keys given at the start are all that is taken on faith; everything else is reached from them.
* Only a verification that says yes counts: every other answer, and every error, is a no.
* Within the validity of a whitelist, only an owner of a listed certificate moves a repository forwards; nobody who
  remembers ``Seen`` can be moved backwards. Revision and time may both stand still, never fall.

Source of the rules: ``cvmfs/manifest_fetch.cc``, ``cvmfs/whitelist.cc``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from stratus.errors import BadHash, BadSignature, Expired, RolledBack, Untrusted, WrongName
from stratus.formats import certificates, signed
from stratus.formats.manifest import Manifest
from stratus.formats.whitelist import Whitelist


class Seen(msgspec.Struct, frozen=True):
    """The newest manifest that was trusted before."""

    revision: int
    timestamp: int


class TrustedMetadata:
    """One verification of one repository's manifest; begin anew for the next manifest.

    Args:
        fqrn: the repository that was asked for.
        public_keys: PEM of master keys, any of which may have signed the whitelist. Raises BadFormat.
        now: aware; what the whitelist's expiry is compared with.
        seen: what was trusted before, if anything.
    """

    def __init__(self, fqrn: str, public_keys: Iterable[bytes], now: datetime, seen: Seen | None = None) -> None:
        self._fqrn = fqrn
        self._public_keys = [certificates.load_public_key(pem) for pem in public_keys]
        self._now = now
        self._seen = seen
        self._document: signed.Signed | None = None
        self._manifest: Manifest | None = None
        self._certificate: bytes | None = None
        self._complete = False

    def set_manifest(self, data: bytes) -> Manifest:
        """Takes ``.cvmfspublished``. The result is not trusted yet; it names the certificate object to fetch.

        Raises BadFormat, WrongName, RolledBack.
        """
        if self._manifest is not None:
            raise Untrusted("a manifest was set before")
        document = signed.split(data)
        manifest = _parse_manifest(document, self._fqrn)
        if self._seen is not None:
            _check_not_older(manifest, self._seen)
        self._document = document
        self._manifest = manifest
        return manifest

    def set_certificate(self, stored: bytes) -> None:
        """Takes the certificate object as it is stored, and verifies the manifest with it.

        Raises BadHash, BadFormat, BadSignature.
        """
        if self._manifest is None or self._document is None or self._certificate is not None:
            raise Untrusted("the certificate comes after the manifest, once")
        name = self._manifest.certificate
        if name.algorithm.digest(stored) != name:
            raise BadHash("the certificate is not the one that the manifest names")
        pem = certificates.unpack(stored)
        certificates.verify_manifest_signature(self._document, certificates.public_key(pem))
        self._certificate = pem

    def set_whitelist(self, data: bytes) -> Whitelist:
        """Takes ``.cvmfswhitelist``; after this the manifest is trusted.

        Raises BadFormat, WrongName, BadSignature, Expired.
        """
        if self._certificate is None or self._complete:
            raise Untrusted("the whitelist comes after the certificate, once")
        document = signed.split(data)
        whitelist = Whitelist.parse(document.body)
        _check_name("whitelist", whitelist.fqrn, self._fqrn)
        if not any(certificates.is_whitelist_signature(document, key) for key in self._public_keys):
            raise BadSignature(f"the whitelist of {self._fqrn} is not signed by a key that is trusted")
        if not whitelist.is_valid(self._now):
            raise Expired(f"the whitelist of {self._fqrn} ran out at {whitelist.expires:%Y-%m-%d %H}:00 UTC")
        # Each is compared in its own algorithm: equal digits of another one mean nothing.
        if not any(certificates.fingerprint(self._certificate, f.algorithm) == f for f in whitelist.fingerprints):
            raise BadSignature(
                f"the whitelist of {self._fqrn} does not list the certificate that signed the manifest",
                hint="the owner of the repository lists it with `stratus resign`",
            )
        self._complete = True
        return whitelist

    @property
    def manifest(self) -> Manifest:
        """The manifest. Raises Untrusted before all three were accepted."""
        if self._manifest is None or not self._complete:
            raise Untrusted("the manifest is not verified yet")
        return self._manifest


def verify_manifest(data: bytes, certificate_pem: bytes, fqrn: str) -> Manifest:
    """The manifest in ``data`` if the owner's own certificate signed it. Raises BadFormat, WrongName, BadSignature.

    For those who hold the certificate already and need no whitelist to believe in it.
    """
    document = signed.split(data)
    manifest = _parse_manifest(document, fqrn)
    certificates.verify_manifest_signature(document, certificates.public_key(certificate_pem))
    return manifest


def _parse_manifest(document: signed.Signed, fqrn: str) -> Manifest:
    manifest = Manifest.parse(document.body)
    _check_name("manifest", manifest.fqrn, fqrn)
    return manifest


def _check_name(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise WrongName(f"the {what} of {found!r} where {wanted!r} is expected", hint="check the URL of the repository")


def _check_not_older(manifest: Manifest, seen: Seen) -> None:
    for what, found, before in (
        ("revision", manifest.revision, seen.revision),
        ("time", manifest.timestamp, seen.timestamp),
    ):
        if found < before:
            raise RolledBack(
                f"{manifest.fqrn} was seen with {what} {before}, now it shows {found}",
                hint="a replica or proxy that lags behind, or somebody who replays an old state; try another server",
            )
