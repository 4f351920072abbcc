"""Objects of an S3 bucket by obstore: fast, many at once, without the interpreter's lock.

It is no use for the rest: its listings take path segments for prefixes, it hides the Date header and signs when it
sends. Its own retries are off, so that every request is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from typing_extensions import Buffer

from stratus.errors import Exists, NotFound, Refused, StoreError
from stratus.stores.contract import Blob, Headers, Observer, Verb, Version
from stratus.stores.observing import Watch
from stratus.stores.retries import Lost, passes
from stratus.stores.s3_place import Place
from stratus.stores.s3_wire import CONNECT_TIMEOUT, READ_TIMEOUT

if TYPE_CHECKING:
    from obstore.store import S3Credential

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})( [A-Za-z ]+)?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r'message: "([^"]+)"')
_RENEWAL = timedelta(minutes=5)  # how often credentials are asked for, since those of roles run out


class Objects:
    """One request each, sent once. Raises Lost where it is worth sending again; thread-safe."""

    def __init__(self, place: Place) -> None:
        self._place = place
        credentials = place.credentials

        def provide() -> S3Credential:
            assert credentials is not None
            keys = credentials.get_frozen_credentials()
            return {
                "access_key_id": keys.access_key,
                "secret_access_key": keys.secret_key,
                "token": keys.token,
                "expires_at": datetime.now(UTC) + _RENEWAL,
            }

        self._store = S3Store(
            place.bucket,
            config={
                "endpoint": place.base,
                "region": place.region,
                "virtual_hosted_style_request": True,  # the endpoint names the bucket already
                "skip_signature": credentials is None,
            },
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT),
                "timeout": timedelta(seconds=READ_TIMEOUT),
            },
            retry_config={"max_retries": 0},
            credential_provider=None if credentials is None else provide,
        )

    def get(self, key: str, observer: Observer) -> Blob:
        """Raises NotFound."""

        def read() -> Blob:
            result = obstore.get(self._store, self._place.prefix + key)
            return Blob(result.bytes().to_bytes(), _version(result.meta["e_tag"]), _time(result.meta["last_modified"]))

        return self._ask("get", key, observer, read, received=lambda blob: len(blob.data))

    def has(self, key: str, observer: Observer) -> bool:
        """Whether it is there."""
        try:
            self._ask("head", key, observer, lambda: obstore.head(self._store, self._place.prefix + key))
        except NotFound:
            return False
        return True

    def put(self, key: str, data: Buffer, absent: bool, headers: Headers, observer: Observer) -> Version:
        """``absent``: raises Exists if it is there."""
        body = memoryview(data).cast("B")

        def write() -> Version:
            result = obstore.put(
                self._store,
                self._place.prefix + key,
                body,
                attributes={"Content-Type": headers.content_type, "Cache-Control": headers.cache_control},
                mode="create" if absent else "overwrite",
                use_multipart=False,
            )
            return _version(result["e_tag"])

        return self._ask("put", key, observer, write, sent=body.nbytes)

    def _ask(
        self,
        verb: Verb,
        key: str,
        observer: Observer,
        action: Callable[[], T],
        sent: int = 0,
        received: Callable[[T], int] = lambda _: 0,
    ) -> T:
        watch = Watch(observer, verb, key)
        try:
            result = action()
        except (BaseError, OSError) as error:
            status, failure = self._failure(verb, key, error)
            watch.tell(status, sent)
            raise failure from error
        watch.tell(200, sent, received(result))
        return result

    def _failure(self, verb: Verb, key: str, error: Exception) -> tuple[int, StoreError]:
        url = self._place.address(key)
        request = f"{verb.upper()} {url}"
        found = _STATUS.search(str(error))
        code = _CODE.search(str(error))
        answer = "".join((found[1], found[2] or "", f" {code[1]}" if code else "")) if found else ""
        match error:
            case FileNotFoundError() if "NoSuchBucket" in str(error):
                return 404, StoreError(f"there is no bucket at {self._place.base}", hint="create the bucket first")
            case FileNotFoundError():
                return 404, NotFound(f"there is no {url}")
            case AlreadyExistsError() | PreconditionError():
                return 412, Exists(f"{url} exists")
            case PermissionDeniedError() | UnauthenticatedError():
                if self._place.credentials is None and verb in ("get", "head"):
                    return 403, NotFound(f"there is no {url}, or it is not public")
                return 403, Refused(f"{request} was answered {answer or 403}")
        status = int(found[1]) if found else 0
        if status and not passes(status):
            return status, StoreError(f"{request} was answered {answer}")
        lost = Lost(f"{request} was answered {answer}" if answer else f"no answer to {request}: {_reason(error)}")
        lost.sent = "kind: Connect," not in str(error)
        lost.status = status
        return status, lost


def _reason(error: Exception) -> str:
    """The innermost cause, as the operating system or the HTTP library names it."""
    found = _MESSAGE.findall(str(error))
    return found[-1] if found else str(error).partition("\n")[0].rpartition(" - ")[2]


def _version(etag: str | None) -> Version:
    return Version((etag or "").strip('"'))


def _time(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
