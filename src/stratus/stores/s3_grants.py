"""URLs that let anybody put one object for a while, signed by botocore."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from stratus.stores.s3_place import Keys


def presign_put(keys: Keys, region: str, url: str, headers: Mapping[str, str], seconds: int, moment: datetime) -> str:
    """The URL of a PUT with just these headers, good for so long from the moment on."""
    request = AWSRequest("PUT", url, dict(headers))
    _Signer(keys, region, seconds, moment).add_auth(request)
    return str(request.url)


class _Signer(S3SigV4QueryAuth):  # type: ignore[misc]
    """Botocore's, with the time that it is told."""

    def __init__(self, keys: Keys, region: str, seconds: int, moment: datetime) -> None:
        super().__init__(keys, "s3", region, seconds)
        self._moment = moment

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = self._moment.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)
