"""Where a bucket is and who asks: URLs, endpoint, region and credentials, found as AWS tools find them."""

from __future__ import annotations

import os
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import msgspec

from stratus.errors import UsageError


class Keys(Protocol):
    """One pair of keys, as botocore's ``ReadOnlyCredentials``."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Credentials(Protocol):
    """Botocore's credentials: those of roles are renewed when they are asked for."""

    def get_frozen_credentials(self) -> Keys: ...


class FixedKeys(msgspec.Struct, frozen=True):
    """Credentials that are given and stay the same."""

    access_key: str
    secret_key: str
    token: str | None = None

    def get_frozen_credentials(self) -> FixedKeys:
        return self


class Place(msgspec.Struct, frozen=True):
    """A prefix of a bucket; without credentials it is used anonymously."""

    url: str
    bucket: str
    prefix: str  # empty, or ends with a slash
    base: str  # the bucket's URL, no slash at the end
    region: str
    credentials: Credentials | None

    def address(self, key: str | None = None, query: dict[str, str] | None = None) -> str:
        """The URL of a key of the store, or of the bucket."""
        path = "" if key is None else f"/{quote(self.prefix + key, safe='/-._~')}"
        tail = f"?{urlencode(sorted(query.items()), quote_via=quote, safe='-._~')}" if query else ""
        return f"{self.base}{path or '/'}{tail}"


def find_place(bucket: str, prefix: str = "", *, endpoint: str | None = None, region: str | None = None) -> Place:
    """What is not given comes from the environment (``AWS_…``) or the profile. Raises UsageError if it is broken."""
    import botocore.exceptions
    import botocore.session

    options = {name: value for name, value in (("endpoint", endpoint), ("region", region)) if value}
    path = f"{bucket}/{prefix}" if prefix else bucket
    url = f"s3://{quote(path)}" + (f"?{urlencode(options, quote_via=quote, safe='/:')}" if options else "")
    session = botocore.session.Session()
    try:
        endpoint = endpoint or _configured_endpoint(session)
        region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
        credentials: Credentials | None = session.get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise UsageError(
            f"the AWS configuration cannot be used: {error}", hint="check AWS_PROFILE and ~/.aws"
        ) from error
    if endpoint is not None:
        if not endpoint.startswith(("http://", "https://")):
            raise UsageError(f"the endpoint {endpoint} is no URL", hint="write http://host:port or https://host")
        base = f"{endpoint.rstrip('/')}/{bucket}"
    elif "." in bucket:  # certificates do not cover names with dots
        base = f"https://s3.{region}.amazonaws.com/{bucket}"
    else:
        base = f"https://{bucket}.s3.{region}.amazonaws.com"
    return Place(url, bucket, f"{prefix}/" if prefix else "", base, region, credentials)


def _configured_endpoint(session: Any) -> str | None:
    profile: dict[str, Any] = session.get_scoped_config()
    services: dict[str, Any] = session.full_config.get("services", {}).get(profile.get("services"), {})
    for found in (
        os.environ.get("AWS_ENDPOINT_URL_S3"),
        os.environ.get("AWS_ENDPOINT_URL"),
        services.get("s3", {}).get("endpoint_url"),
        profile.get("endpoint_url"),
    ):
        if found:
            return str(found)
    return None
