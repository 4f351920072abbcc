"""Where documents of secrets are kept: the environment, AWS, and servers that speak the language of Vault.

Errors name where, never what: the answer of a service may hold the secrets.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any

from stratus.errors import BadFormat, NotPermitted, StoreError, UsageError
from stratus.trust.fetching import fetch_json
from stratus.trust.secrets import Document

_FORM = "it is a JSON object whose values are texts"


def parse_document(text: str, where: str) -> Document:
    """Raises BadFormat."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return _checked(found, where)


def _checked(found: Any, where: str) -> Document:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BadFormat(f"{where} holds no document of secrets", hint=_FORM)
    return found


def from_environment(name: str) -> Document:
    """The variable's text: a document, or its base64. Raises NotPermitted, BadFormat."""
    text = os.environ.get(name, "").strip()
    if not text:
        raise NotPermitted(f"there is no variable {name}", hint="it holds the document of secrets")
    if not text.startswith("{"):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
    return parse_document(text, f"the variable {name}")


def from_secrets_manager(name: str) -> Document:
    """The secret's text. Raises NotPermitted, StoreError, BadFormat."""
    where = f"the secret {name} of AWS Secrets Manager"
    found = _aws("secretsmanager", where, lambda client: client.get_secret_value(SecretId=name))
    return parse_document(found.get("SecretString", ""), where)


def from_parameters(path: str) -> Document:
    """All parameters below a path, decrypted. Raises NotPermitted if there are none, StoreError."""
    where = f"the parameters below {path} of AWS Systems Manager"
    base = f"{path.rstrip('/')}/"

    def read(client: Any) -> dict[str, str]:
        pages = client.get_paginator("get_parameters_by_path")
        found = pages.paginate(Path=base.rstrip("/") or "/", Recursive=True, WithDecryption=True)
        return {item["Name"].removeprefix(base): item["Value"] for page in found for item in page["Parameters"]}

    document: Document = _aws("ssm", where, read)
    if not document:
        raise NotPermitted(f"there are no {where.removeprefix('the ')}", hint="each entry is one parameter")
    return document


def _aws(service: str, where: str, read: Any) -> Any:
    import botocore.exceptions
    import botocore.session
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})
    try:
        region = os.environ.get("AWS_REGION")  # Lambda says it so; the rest is found as AWS tools find it
        client = botocore.session.Session().create_client(service, region, config=config)
        try:
            return read(client)
        finally:
            client.close()
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise NotPermitted(
            f"{where} cannot be read: {code}", hint="check its name, and that the role of the functions may read it"
        ) from None
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(
            f"{where} cannot be read: {type(error).__name__}", hint="check AWS_REGION, the credentials and the network"
        ) from None


def from_vault(url: str) -> Document:
    """The newest version of a secret. The token is ``VAULT_TOKEN``, or in the file ``VAULT_TOKEN_FILE`` names.

    Raises NotPermitted without a token, UsageError, StoreError, BadFormat.
    """
    headers = {"X-Vault-Token": _vault_token(), "X-Vault-Request": "true"}
    if os.environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = os.environ["VAULT_NAMESPACE"]
    found = fetch_json(url, headers).get("data")
    return _checked(found.get("data") if isinstance(found, dict) else None, url)


def _vault_token() -> str:
    file = os.environ.get("VAULT_TOKEN_FILE")
    try:
        token = os.environ.get("VAULT_TOKEN") or Path(file or Path.home() / ".vault-token").read_text()
    except OSError as error:
        raise NotPermitted(
            f"no token for the secret provider: {error.strerror}", hint="set VAULT_TOKEN or VAULT_TOKEN_FILE"
        ) from error
    token = token.strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise UsageError("the token for the secret provider is none", hint="set VAULT_TOKEN or VAULT_TOKEN_FILE")
    return token
