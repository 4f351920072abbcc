"""The manifest (``.cvmfspublished``): the signed pointer to a revision.

Key lines, one letter and its value each, inside the envelope of ``signed``. Unknown keys are ignored, the last of
several equal keys counts. Source: ``cvmfs/manifest.cc``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Self

import msgspec

from stratus.errors import BadFormat
from stratus.formats import signed
from stratus.formats.hashes import Digest

_ROOT_PATH = hashlib.md5(b"", usedforsecurity=False).hexdigest()
_NUMBER = re.compile(r"[0-9]{1,18}")  # below 2^63, whatever the digits


class Manifest(msgspec.Struct, frozen=True):
    """What a manifest says.

    Attributes:
        root: the root catalog (C); its algorithm is the repository's.
        root_size: bytes of the root catalog's SQLite file (B).
        ttl: seconds (D); clients go by the root catalog's own.
        revision: equal to the root catalog's (S).
        fqrn: the repository (N).
        certificate: the object with the certificate that verifies the manifest (X).
        timestamp: when it was published, Unix time in seconds (T).
        history: the tag database (H); None without tags.
        garbage_collectable: G.
        alternative_paths: A.
        meta_info: M.
        reflog: hash of the bytes of ``.cvmfsreflog`` (Y).
    """

    root: Digest
    root_size: int
    ttl: int
    revision: int
    fqrn: str
    certificate: Digest
    timestamp: int
    history: Digest | None = None
    garbage_collectable: bool = False
    alternative_paths: bool = False
    meta_info: Digest | None = None
    reflog: Digest | None = None

    def body(self) -> bytes:
        """The text to be signed, keys in the order in which the stock tools write them."""
        fields = (
            ("C", self.root),
            ("B", self.root_size),
            ("R", _ROOT_PATH),
            ("D", self.ttl),
            ("S", self.revision),
            ("G", _yes_or_no(self.garbage_collectable)),
            ("A", _yes_or_no(self.alternative_paths)),
            ("N", self.fqrn),
            ("X", self.certificate),
            ("H", self.history),
            ("T", self.timestamp),
            ("M", self.meta_info),
            ("Y", self.reflog),
        )
        return "".join(f"{key}{value}\n" for key, value in fields if value is not None).encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From a whole file or a body; verifies nothing.

        Raises BadFormat for what the stock client would refuse (a key that is missing, a manifest that is not of the
        root path), misread (upper-case hashes, CR at the ends of lines) or take without verifying (no name, no
        certificate, no time).
        """
        fields = {line[:1]: line[1:] for line in signed.lines(data)}
        if _text(fields, b"R") != _ROOT_PATH:
            raise BadFormat("a manifest that is not of the root of a repository")
        return cls(
            root=Digest.parse(_text(fields, b"C")),
            root_size=_number(fields, b"B") if b"B" in fields else 0,
            ttl=_number(fields, b"D"),
            revision=_number(fields, b"S"),
            fqrn=_text(fields, b"N"),
            certificate=Digest.parse(_text(fields, b"X")),
            timestamp=_number(fields, b"T"),
            history=_optional_digest(fields, b"H"),
            garbage_collectable=fields.get(b"G") == b"yes",
            alternative_paths=fields.get(b"A") == b"yes",
            meta_info=_optional_digest(fields, b"M"),
            reflog=_optional_digest(fields, b"Y"),
        )


def _yes_or_no(flag: bool) -> str:
    return "yes" if flag else "no"


def _text(fields: dict[bytes, bytes], key: bytes) -> str:
    if key not in fields:
        raise BadFormat(f"a manifest without {key.decode()}")
    return signed.ascii_text(fields[key])


def _number(fields: dict[bytes, bytes], key: bytes) -> int:
    text = _text(fields, key)
    if not _NUMBER.fullmatch(text):
        raise BadFormat(f"a manifest whose {key.decode()} is {text[:40]!r}, which is not a number")
    return int(text)


def _optional_digest(fields: dict[bytes, bytes], key: bytes) -> Digest | None:
    return Digest.parse(_text(fields, key)) if key in fields else None
