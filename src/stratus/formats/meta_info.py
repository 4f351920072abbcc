"""The meta-info object (suffix ``M``, always zlib): who runs a repository and what it is for, as JSON.

Shown by the stock client as the extended attribute ``user.repo_metainfo``, which ends at 64 KiB. Source:
``cvmfs/server/cvmfs_server_json.sh``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from stratus.errors import BadFormat, UsageError

SIZE_MAX = 1 << 16  # bytes


class MetaInfo(msgspec.Struct, frozen=True):
    """What is said about a repository; all of it may be empty.

    Attributes:
        url: of the project.
        recommended_stratum0: URL; ``recommended_stratum1s`` likewise.
        custom: any JSON.
    """

    administrator: str = ""
    email: str = ""
    organisation: str = ""
    description: str = ""
    url: str = ""
    recommended_stratum0: str = ""
    recommended_stratum1s: tuple[str, ...] = ()
    custom: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def pack(self) -> bytes:
        """The JSON text, always the same for equal values. Raises UsageError if it is longer than clients show."""
        document = {
            "administrator": self.administrator,
            "email": self.email,
            "organisation": self.organisation,
            "description": self.description,
            "url": self.url,
            "recommended-stratum0": self.recommended_stratum0,
            "recommended-stratum1s": list(self.recommended_stratum1s),
            "custom": dict(self.custom),
        }
        data = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
        if len(data) > SIZE_MAX:
            raise UsageError(f"meta-info of {len(data)} bytes", hint=f"keep it below {SIZE_MAX} bytes")
        return data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From JSON text; what is missing is empty, unknown fields are ignored. Raises BadFormat."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadFormat(f"meta-info that is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise BadFormat("meta-info that is not a JSON object")
        servers = document.get("recommended-stratum1s")
        custom = document.get("custom")
        return cls(
            administrator=_text(document, "administrator"),
            email=_text(document, "email"),
            organisation=_text(document, "organisation"),
            description=_text(document, "description"),
            url=_text(document, "url"),
            recommended_stratum0=_text(document, "recommended-stratum0"),
            recommended_stratum1s=tuple(map(str, servers)) if isinstance(servers, list) else (),
            custom=custom if isinstance(custom, dict) else {},
        )


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
