"""The stock gateway's own signatures: ``Authorization: <name> <base64 of the hexadecimal HMAC-SHA1>``.

What is signed is the protocol's to say: a body, or the token in a URL. There is no time and no nonce in it, so whoever
copies a request can send it again; the API of functions takes RFC 9421 instead.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

from stratus.errors import BadSignature, NotPermitted
from stratus.formats.key_record import is_gateway_name
from stratus.trust.gateway_keys import GatewayKey


def sign(message: bytes, key: GatewayKey) -> str:
    """The value of the header."""
    return f"{key.name} {_mac(message, key.secret).decode()}"


def verify(header: str, message: bytes, secret_of: Callable[[str], bytes | None]) -> str:
    """The name of the key that signed the message. ``secret_of`` gives None for an unknown one.

    Raises BadSignature for a header that is none or does not hold, NotPermitted for an unknown key. As many
    operations are done for an unknown key as for a known one.
    """
    name, space, mac = header.partition(" ")
    if not space or not is_gateway_name(name):
        raise BadSignature("the request is not signed as gateways want it", hint="sign it with a .gw key")
    secret = secret_of(name)
    holds = hmac.compare_digest(_mac(message, secret or b""), mac.encode("utf-8", "surrogateescape"))
    if secret is None:
        raise NotPermitted(f"the key {name!r} is not known here", hint="ask the repository's owner for a key")
    if not holds:
        raise BadSignature("the signature of the request does not hold", hint="check the secret in the .gw file")
    return name


def _mac(message: bytes, secret: bytes) -> bytes:
    return base64.b64encode(hmac.new(secret, message, hashlib.sha1).hexdigest().encode())
