from __future__ import annotations

from pathlib import Path

import pytest

from stratus.errors import UsageError
from stratus.stores.directory import DirectoryStore
from stratus.stores.http import HttpStore
from stratus.stores.opening import open_store
from stratus.stores.s3 import S3Store
from stratus.testing.s3_server import LocalS3
from tests.conftest import BUCKET


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_a_path_and_a_file_url_are_directories(tmp_path: Path) -> None:
    directory = tmp_path / "a b%20ü"
    for url in (str(directory), open_store(str(directory)).url):
        store = open_store(url)
        assert isinstance(store, DirectoryStore)
        assert store.path == directory
    assert open_store(str(directory)).url.startswith("file:///")
    assert open_store(str(directory)).url.endswith("/a%20b%2520%C3%BC")


def test_a_relative_path_is_kept_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    monkeypatch.chdir("/")
    store.put("a", b"1")
    assert (tmp_path / "store/a").exists()


def test_a_memory_is_the_same_for_the_whole_process() -> None:
    open_store("memory:one").put("a", b"1")
    assert open_store("memory:one").get("a").data == b"1"
    assert open_store("memory:two").missing(["a"]) == {"a"}


def test_a_web_server_is_read() -> None:
    store = open_store("https://host.example.org/cvmfs/")
    assert isinstance(store, HttpStore)
    assert store.url == "https://host.example.org/cvmfs"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket", "https://bucket.s3.us-east-1.amazonaws.com/a%21"),
        ("s3://bucket/pre/fix/?region=eu-central-1", "https://bucket.s3.eu-central-1.amazonaws.com/pre/fix/a%21"),
        ("s3://sw.example.org", "https://s3.us-east-1.amazonaws.com/sw.example.org/a%21"),
        ("s3://bucket/p?endpoint=http://host:8333/", "http://host:8333/bucket/p/a%21"),
    ],
)
def test_a_bucket_is_where_its_url_says(url: str, address: str) -> None:
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.place.address("a!") == address
    again = open_store(store.url)
    assert isinstance(again, S3Store)
    assert again.place.address("a!") == address


def test_an_endpoint_is_found_as_aws_tools_find_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def base() -> str:
        store = open_store("s3://bucket")
        assert isinstance(store, S3Store)
        return store.place.base

    (tmp_path / "config").write_text(
        "[profile one]\nendpoint_url = http://profile:1\nregion = eu-west-1\n"
        "[profile two]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = http://service:1\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "one")
    assert base() == "http://profile:1/bucket"
    monkeypatch.setenv("AWS_PROFILE", "two")
    assert base() == "http://service:1/bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert base() == "http://all:1/bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3:1")
    assert base() == "http://s3:1/bucket"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match="nobody"):
        base()


def test_credentials_of_the_environment_are_used(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{BUCKET}/environment")
    assert store.put("a", b"1") == store.get("a").version


def test_without_credentials_a_bucket_is_used_anonymously(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_store("s3://bucket")
    assert isinstance(store, S3Store)
    assert store.place.credentials is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/",
        "gs://bucket",
        "s3://",
        "s3:///prefix",
        "s3://b?colour=red",
        "s3://b?endpoint=host",
        "file://host/a",
    ],
)
def test_what_is_no_store_is_told_what_would_be(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert caught.value.hint
