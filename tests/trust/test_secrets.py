"""Where secrets come from: each provider, spoken to as it speaks; nothing of them is ever shown."""

from __future__ import annotations

import base64
import json
import os
import pickle
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stratus.errors import BadFormat, NotPermitted, StoreError, StratusError, UsageError
from stratus.trust import secret_sources
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.secrets import Document, DocumentSecrets, EachItsOwn, FileSecrets, open_secrets
from tests.repositories import FQRN, keys

SECRET = "3b1f9a-very-secret"


def document(directory: Path) -> Document:
    """The keys of the tests' repository, and a gateway key's secret."""
    keys().save(directory)
    texts = {file.name: file.read_text() for file in directory.iterdir()}
    return {**texts, "gateway/ci": SECRET}


# -- files -----------------------------------------------------------------------------------------------------------


def test_keys_are_kept_until_their_files_change(tmp_path: Path) -> None:
    keys().save(tmp_path)
    secrets = open_secrets(f"file://{tmp_path}")
    found = secrets.repository_keys(FQRN)
    assert found == keys()
    assert secrets.repository_keys(FQRN) is found
    os.utime(tmp_path / f"{FQRN}.key", ns=(1, 1))
    assert secrets.repository_keys(FQRN) is not found


def test_keys_that_are_not_here_are_not_permitted(tmp_path: Path) -> None:
    secrets = EachItsOwn({FQRN: FileSecrets(tmp_path)})
    for fqrn in (FQRN, "other.example.org"):
        with pytest.raises(NotPermitted):
            secrets.repository_keys(fqrn)
        with pytest.raises(NotPermitted):
            secrets.gateway_secret(fqrn, "ci")


def test_gateway_keys_are_found_by_their_names(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path)
    classic, more = GatewayKey.generate("classic"), GatewayKey.generate("more")
    classic.save(tmp_path / f"{FQRN}.gw")
    more.save(tmp_path / f"{FQRN}-more.gw")
    assert secrets.gateway_secret(FQRN, "classic") == classic.secret
    assert secrets.gateway_secret(FQRN, "more") == more.secret
    for name in ("other", "../more", f"more/../{FQRN}"):
        with pytest.raises(NotPermitted):
            secrets.gateway_secret(FQRN, name)


# -- documents -------------------------------------------------------------------------------------------------------


def test_a_variable_holds_a_document_or_its_base64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(document(tmp_path))
    for value in (text, base64.b64encode(text.encode()).decode()):
        monkeypatch.setenv("SECRETS_OF_TESTS", value)
        secrets = open_secrets("env:SECRETS_OF_TESTS")
        assert secrets.repository_keys(FQRN) == keys()
        assert secrets.repository_keys(FQRN).has_master
        assert secrets.gateway_secret(FQRN, "ci") == SECRET.encode()
        with pytest.raises(NotPermitted):
            secrets.repository_keys("other.example.org")
    for value, error in ((SECRET, BadFormat), (f'["{SECRET}"]', BadFormat), ("", NotPermitted)):
        monkeypatch.setenv("SECRETS_OF_TESTS", value)
        with pytest.raises(error) as caught:
            open_secrets("env:SECRETS_OF_TESTS").gateway_secret(FQRN, "ci")
        assert_hidden(caught.value)


@pytest.mark.parametrize("text", ["", "env:", "/keys", "file:keys", "gopher://there", "aws-sm"])
def test_what_names_no_provider_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        open_secrets(text)


class Provider:
    """A document that changes, and a clock."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.error: StratusError | None = None
        self.now = 0.0
        self.reads = 0
        self.secrets = DocumentSecrets(self.read, "tests", lambda: self.now)

    def read(self) -> Document:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.document

    def secret(self, name: str = "ci") -> bytes:
        return self.secrets.gateway_secret(FQRN, name)


def test_a_document_is_kept_for_some_minutes() -> None:
    provider = Provider({"gateway/ci": "one"})
    assert [provider.secret() for _ in range(3)] == [b"one"] * 3
    provider.document = {"gateway/ci": "two"}
    provider.now = 299
    assert (provider.secret(), provider.reads) == (b"one", 1)
    provider.now = 300
    assert (provider.secret(), provider.reads) == (b"two", 2)


def test_a_document_that_lacks_something_is_read_again_now_and_then() -> None:
    provider = Provider({"gateway/ci": "one"})
    assert provider.secret() == b"one"
    for _ in range(3):
        with pytest.raises(NotPermitted):
            provider.secret("new")
    assert provider.reads == 1
    provider.document = {"gateway/ci": "one", "gateway/new": "two"}
    provider.now = 10
    assert (provider.secret("new"), provider.reads) == (b"two", 2)


def test_while_a_provider_does_not_answer_what_it_said_is_used_but_not_for_ever() -> None:
    provider = Provider({"gateway/ci": "one"})
    assert provider.secret() == b"one"
    provider.error = StoreError("no answer")
    provider.now = 3599
    assert provider.secret() == b"one"
    provider.now = 3620
    with pytest.raises(StoreError):
        provider.secret()


# -- services --------------------------------------------------------------------------------------------------------


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Any], str]]:
    """Serves a value as a key-value store of version 2 does; gives the provider's name."""
    served: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["X-Vault-Token"] == "t0ken" and self.headers["X-Vault-Request"] == "true"
            body = json.dumps({"data": {"data": served[-1], "metadata": {"version": 1}}} if good else {"errors": []})
            self.send_response(200 if good else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(token))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def serve(value: Any) -> str:
            served.append(value)
            return f"vault:http://127.0.0.1:{server.server_port}/v1/secret/data/stratus"

        yield serve
        server.shutdown()
        thread.join()


def test_secrets_of_a_vault(vault: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    secrets = open_secrets(vault(document(tmp_path / "keys")))
    assert secrets.repository_keys(FQRN) == keys()
    assert secrets.gateway_secret(FQRN, "ci") == SECRET.encode()
    with pytest.raises(BadFormat) as caught:
        open_secrets(vault([SECRET])).gateway_secret(FQRN, "ci")
    assert_hidden(caught.value)
    monkeypatch.setenv("VAULT_TOKEN", "other")
    with pytest.raises(StoreError, match="403") as refused:
        open_secrets(vault({})).repository_keys(FQRN)
    assert "other" not in str(refused.value)
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "nothing"))
    with pytest.raises(NotPermitted):
        open_secrets(vault({})).repository_keys(FQRN)


def test_a_vault_is_asked_by_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "t0ken")
    with pytest.raises(UsageError, match="https"):
        open_secrets("vault:http://vault.example.org/v1/secret/data/x").repository_keys(FQRN)


# -- nothing is shown ------------------------------------------------------------------------------------------------


def test_secrets_do_not_show_themselves_and_cannot_be_copied(tmp_path: Path) -> None:
    provider = Provider(document(tmp_path))
    assert provider.secret() == SECRET.encode()
    for secrets in (provider.secrets, FileSecrets(tmp_path)):
        assert SECRET not in repr(secrets)
        with pytest.raises(TypeError):
            pickle.dumps(secrets)
    assert SECRET not in repr(GatewayKey("ci", SECRET.encode()))


def assert_hidden(error: BaseException | None) -> None:
    """Neither the error nor what it came from shows the secret."""
    while error is not None:
        assert SECRET not in f"{error} {error.args} {getattr(error, 'hint', '')}"
        error = error.__cause__ or error.__context__


def test_a_document_that_is_none_is_not_shown() -> None:
    for text in (SECRET, json.dumps({"gateway/ci": [SECRET]}), json.dumps([SECRET])):
        with pytest.raises(BadFormat) as caught:
            secret_sources.parse_document(text, "there")
        assert_hidden(caught.value)
