"""What a writer proves itself with: which file is what, and where a token is not sent."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stratus.errors import BadFormat, BadSignature, NotPermitted, UsageError
from stratus.formats.key_record import gateway_key_id
from stratus.trust.credentials import KeyCredential, TokenCredential, open_key
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.request_signatures import verify
from stratus.trust.writer_keys import WriterKey

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
URL = "https://api.example.org/api/v1/repositories/sw.example.org/leases"
TOKEN = "e30.e30.c2ln"


def headers(credential: KeyCredential | TokenCredential, url: str = URL) -> dict[str, str]:
    return credential.headers("POST", url, {"Content-Type": "application/json"}, b"{}", NOW)


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_gateway_key_is_one_line_that_only_its_owner_reads(tmp_path: Path) -> None:
    key = GatewayKey.generate("portal-1")
    file = tmp_path / "new" / "portal.gw"
    key.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().split() == ["plain_text", "portal-1", key.secret.decode()]
    assert GatewayKey.load(file) == key
    assert key.id == gateway_key_id("portal-1") != gateway_key_id("portal-2")
    with pytest.raises(UsageError, match="there already"):
        GatewayKey.generate("other").save(file)
    file.chmod(0o644)
    with pytest.raises(NotPermitted, match="everybody"):
        GatewayKey.load(file)


@pytest.mark.parametrize(
    "text", ["", "plain_text name", "plain_text name a b", "file name x", "plain_text ../x secret"]
)
def test_what_is_no_gateway_key_is_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadFormat) as caught:
        GatewayKey.parse(text.encode(), "x.gw")
    assert "secret" not in str(caught.value)
    for name in ("", "../x", "a/b", "a b", "x" * 65, ".x"):
        with pytest.raises(UsageError):
            GatewayKey.generate(name)


def test_the_name_of_a_file_tells_what_kind_of_key_it_has(tmp_path: Path) -> None:
    pair, secret = WriterKey.generate(), GatewayKey.generate("portal")
    pair.save(tmp_path / "alice.pem")
    secret.save(tmp_path / "portal.gw")
    assert open_key(tmp_path / "alice.pem").name == f"key {pair.id}"
    assert open_key(tmp_path / "portal.gw").name == f"key {secret.id}"
    with pytest.raises(NotPermitted):
        open_key(tmp_path / "nothing.gw")


def test_a_request_is_signed_with_a_shared_secret_and_holds_for_nobody_elses() -> None:
    key = GatewayKey.generate("portal")
    sent = headers(KeyCredential(key))
    assert 'alg="hmac-sha256"' in sent["Signature-Input"]
    assert key.secret.decode() not in str(sent)
    found = verify("POST", URL, sent, b"{}", {key.id: key}.get, NOW)
    assert found.key_id == key.id
    with pytest.raises(BadSignature):
        verify("POST", URL, sent, b"{}", {key.id: GatewayKey.generate("portal")}.get, NOW)
    with pytest.raises(BadSignature):
        verify("POST", URL, sent, b"{ }", {key.id: key}.get, NOW)


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    credential = TokenCredential(file)
    for token in (TOKEN, f"{TOKEN}2"):
        file.write_text(f"{token}\n")
        assert headers(credential) == {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    assert headers(TokenCredential(TOKEN))["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(TokenCredential(TOKEN))


@pytest.mark.parametrize(
    "url", ["http://api.example.org/", "http://127.0.0.1.example.org/", "http://10.0.0.1/", "ftp://x/"]
)
def test_a_token_is_not_sent_where_others_can_read_it(url: str) -> None:
    with pytest.raises(UsageError, match="not sent"):
        headers(TokenCredential(TOKEN), url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://[::1]/x", "http://localhost/x", "https://there/x"])
def test_a_token_is_sent_where_nobody_can(url: str) -> None:
    assert "Authorization" in headers(TokenCredential(TOKEN), url)


def test_what_is_no_token_is_not_sent_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text in ("", "some-password", f"{TOKEN}\nX-Other: 1", f"{TOKEN} x", "ä.b.c"):
        file.write_text(text)
        with pytest.raises(BadFormat) as caught:
            headers(TokenCredential(file))
        assert not text or text not in f"{caught.value} {caught.value.hint}"
    file.write_bytes(b"\xff\xfe")
    for source in (file, tmp_path / "nothing"):
        with pytest.raises(NotPermitted, match="token"):
            headers(TokenCredential(source))
