"""The whitelist (``.cvmfswhitelist``): which certificates may sign manifests, and until when.

Inside the envelope of ``signed``: issue time, ``E`` and the expiry, ``N`` and the name, in exactly this order, then
a fingerprint per line. Times are UTC, ``YYYYMMDDhhmmss``. Source: ``cvmfs/whitelist.cc``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Self

import msgspec

from stratus.errors import BadFormat
from stratus.formats import signed
from stratus.formats.hashes import Digest

_TIME = "%Y%m%d%H%M%S"
_TIME_DIGITS = re.compile(r"[0-9]{14}")
_COMMENT = re.compile(r"[ \t#]")
_UNSUPPORTED = (b"Vpkcs7", b"Wcachain")


class Whitelist(msgspec.Struct, frozen=True):
    """What a whitelist says.

    Attributes:
        fqrn: the repository.
        issued: UTC, grain of a second.
        expires: UTC; only its hour counts.
        fingerprints: of certificates, each in the algorithm of its form.
    """

    fqrn: str
    issued: datetime
    expires: datetime
    fingerprints: tuple[Digest, ...]

    def body(self) -> bytes:
        """The text to be signed."""
        head = (_format(self.issued), f"E{_format(self.expires)}", f"N{self.fqrn}")
        return "".join(f"{line}\n" for line in (*head, *map(_fingerprint, self.fingerprints))).encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From a whole file or a body; verifies nothing.

        Lines that are no fingerprint are skipped, as the stock client does, but a whitelist that asks for more than
        Stratus checks (PKCS#7, a chain of certificate authorities) is refused. Raises BadFormat.
        """
        lines = signed.lines(data)
        if len(lines) < 3 or lines[1][:1] != b"E" or lines[2][:1] != b"N":
            raise BadFormat("a whitelist must begin with issue time, expiry and name")
        for line in lines[3:5]:
            if line in _UNSUPPORTED:
                raise BadFormat(
                    f"a whitelist with {line.decode()}, which is not supported",
                    hint="the owner of the repository can sign a plain whitelist with the master key",
                )
        found = (_read_fingerprint(line) for line in lines[3:])
        return cls(
            fqrn=signed.ascii_text(lines[2][1:]),
            issued=_read_time(lines[0]),
            expires=_read_time(lines[1][1:]),
            fingerprints=tuple(digest for digest in found if digest is not None),
        )

    def is_valid(self, now: datetime) -> bool:
        """Whether it has not run out: it does at the *start* of the hour of ``expires``, as for the stock client."""
        return _hour(now) < _hour(self.expires)


def _format(time: datetime) -> str:
    return time.astimezone(UTC).strftime(_TIME)


def _hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _read_time(raw: bytes) -> datetime:
    text = signed.ascii_text(raw)
    if not _TIME_DIGITS.fullmatch(text):
        raise BadFormat(f"{text[:40]!r} is not a time of a whitelist")
    try:
        return datetime.fromisoformat(f"{text[:8]}T{text[8:]}Z")
    except ValueError:
        raise BadFormat(f"{text!r} is not a time of a whitelist") from None


def _fingerprint(digest: Digest) -> str:
    pairs = ":".join(f"{byte:02X}" for byte in digest.raw)
    return pairs + digest.algorithm.text_suffix.upper()


def _read_fingerprint(line: bytes) -> Digest | None:
    text = _COMMENT.split(line.decode("latin-1"), maxsplit=1)[0]
    try:
        return Digest.parse(text.replace(":", "").lower())
    except BadFormat:
        return None
