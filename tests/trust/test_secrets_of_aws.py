"""Secrets in AWS Secrets Manager and Systems Manager, as its services are spoken to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.errors import BadFormat, NotPermitted, StoreError
from stratus.trust.secrets import open_secrets
from tests.repositories import FQRN, keys
from tests.runtimes.ministack import MiniStack, ministack

SECRET = "3b1f9a-very-secret"


@pytest.fixture(scope="module")
def services() -> Iterator[MiniStack]:
    with ministack() as found:
        yield found


@pytest.fixture
def cloud(services: MiniStack, monkeypatch: pytest.MonkeyPatch) -> MiniStack:
    for name, value in services.environment().items():
        monkeypatch.setenv(name, value)
    return services


def document(directory: Path) -> dict[str, str]:
    keys().save(directory)
    return {file.name: file.read_text() for file in directory.iterdir()} | {"gateway/ci": SECRET}


def test_a_document_in_secrets_manager(cloud: MiniStack, tmp_path: Path) -> None:
    client = cloud.client("secretsmanager")
    client.create_secret(Name="stratus/one", SecretString=json.dumps(document(tmp_path)))
    secrets = open_secrets("aws-sm:stratus/one")
    assert secrets.repository_keys(FQRN) == keys()
    assert secrets.gateway_secret(FQRN, "ci") == SECRET.encode()
    client.create_secret(Name="stratus/text", SecretString=SECRET)
    with pytest.raises(BadFormat) as caught:
        open_secrets("aws-sm:stratus/text").gateway_secret(FQRN, "ci")
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(NotPermitted, match="stratus/none"):
        open_secrets("aws-sm:stratus/none").repository_keys(FQRN)


def test_parameters_of_systems_manager(cloud: MiniStack, tmp_path: Path) -> None:
    client = cloud.client("ssm")
    for name, value in document(tmp_path).items():
        client.put_parameter(Name=f"/stratus/one/{name}", Value=value, Type="SecureString")
    for text in ("aws-ssm:/stratus/one", "aws-ssm:/stratus/one/"):
        secrets = open_secrets(text)
        assert secrets.repository_keys(FQRN) == keys()
        assert secrets.gateway_secret(FQRN, "ci") == SECRET.encode()
    with pytest.raises(NotPermitted, match="/stratus/none"):
        open_secrets("aws-ssm:/stratus/none").repository_keys(FQRN)


def test_services_that_do_not_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for text in ("aws-sm:one", "aws-ssm:/one"):
        with pytest.raises(StoreError, match="AWS S"):
            open_secrets(text).repository_keys(FQRN)
