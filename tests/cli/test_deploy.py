"""Descriptors are what they should be, and a look at a deployment finds what is wrong with it."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from stratus.formats import messages
from stratus.formats.messages import GrantsRequest, Wanted
from stratus.functions.contract import Context, Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.runtimes.deploying import KINDS, Kind, Target, render
from stratus.runtimes.settings import from_environment
from stratus.stores.contract import Exchange
from tests.cli.conftest import Run, serving
from tests.functions import desk
from tests.functions.desk import LAYOUT
from tests.repositories import FQRN

ROOT = Path(__file__).parents[2]
NAME, URL = "software.example.org", "https://publish.example.org"
STORES: dict[Kind, str] = {"local": "/srv/stratus", "http": "s3://software", "aws": "s3://software"}


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms."""


def _short(loader: Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    build: Callable[..., Any] = (
        loader.construct_sequence if isinstance(node, yaml.SequenceNode) else loader.construct_mapping
    )
    return {suffix: build(node, deep=True)}


Loader.add_multi_constructor("!", _short)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_what_is_rendered(stratus: Run, tmp_path: Path, kind: Kind) -> None:
    written = stratus("deploy", kind, NAME, "--store", STORES[kind], "--url", URL, "--output", tmp_path / kind).lines
    example = {
        str(file.relative_to(ROOT / "deploy" / kind)): file.read_text()
        for file in (ROOT / "deploy" / kind).rglob("*")
        if file.is_file()
    }
    assert sorted(written) == sorted(str(tmp_path / kind / name) for name in example)
    assert {name: (tmp_path / kind / name).read_text() for name in example} == example


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_to_be_filled_in(kind: Kind) -> None:
    for text in render(kind, Target("a_b.example.org", STORES[kind])).values():
        assert re.search(r"@\{[a-z_]+\}", text) is None


def test_a_store_that_does_not_fit_is_refused(stratus: Run) -> None:
    assert "is a directory" in stratus("deploy", "http", NAME, "--store", "/srv/stratus", code=2).err
    assert "no bucket of AWS" in stratus("deploy", "aws", NAME, "--store", "s3://x?endpoint=http://y", code=2).err
    assert "characters" in stratus("deploy", "aws", NAME, "--store", 's3://x"\n', code=2).err
    stratus("deploy", "aws", NAME, code=1)


@pytest.mark.parametrize("store", ["s3://software", "s3://software/some/where"])
def test_the_template_passes_cfn_lint(tmp_path: Path, store: str) -> None:
    for name, text in render("aws", Target(NAME, store)).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    line = [str(Path(sys.executable).with_name("cfn-lint")), str(tmp_path / "template.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["knative.yaml", "cloudrun.yaml", "openfaas.yaml"])
def test_the_environment_of_containers_is_one_that_is_understood(name: str) -> None:
    documents = list(yaml.safe_load_all(render("http", Target(NAME, "s3://software", URL))[name]))
    shared: dict[str, str] = {}
    found = 0
    for document in documents:
        if document.get("kind") == "ConfigMap":
            shared = document["data"]
    for document in documents:
        for environment in _environments(document):
            settings = from_environment({**shared, **environment})
            assert (settings.store, settings.repositories) == ("s3://software", (NAME,))
            found += 1
    assert found == (2 if name == "knative.yaml" else 1)


def _environments(document: Any) -> list[dict[str, str]]:
    if "functions" in document:
        return [function["environment"] for function in document["functions"].values()]
    containers = document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return [{item["name"]: item.get("value", "") for item in one["env"]} for one in containers]


# -- permissions


_ACTIONS = {
    "get": "s3:GetObject",
    "head": "s3:GetObject",
    "put": "s3:PutObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


@functools.cache
def permitted() -> dict[str, list[tuple[str, str]]]:
    """Action and pattern of keys, by function."""
    template = yaml.load(render("aws", Target(FQRN, "s3://software"))["template.yaml"], Loader)
    resources = template["Resources"]
    found: dict[str, list[tuple[str, str]]] = {}
    for name, resource in resources.items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        statements: list[Any] = []
        for policy in resource["Properties"]["Policies"]:
            inline = resources[policy["Ref"]]["Properties"]["PolicyDocument"] if "Ref" in policy else policy
            statements += inline["Statement"]
        found[name] = [
            (statement["Action"], arn["Sub"].partition("${BucketName}")[2].removeprefix("/"))
            for statement in statements
            for arn in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
            if "Sub" in arn
        ]
    return found


def test_each_function_may_do_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)

    def spy(event: Event, context: Context) -> Reply:
        def note(exchange: Exchange) -> None:
            asked[event.kind.partition(".")[0]].add((_ACTIONS[exchange.verb], exchange.key))

        return dispatch(event, replace(context, stores=lambda fqrn: context.stores(fqrn).observed(note)))

    monkeypatch.setattr(desk, "dispatch", spy)
    here = desk.new_desk()
    for number in range(3):
        here.publish(f"/{number}", {"a": b"%d" % number})
    lease = here.lease("/x")
    wanted = messages.pack(GrantsRequest((Wanted("0" * 40, 7), Wanted("change-set", 7))))
    here.ask("lease.grants", wanted, **desk.of(lease))
    for kind in ("lease.renew", "lease.list", "queue", "status", "lease.release", "receipt"):
        here.ask(kind, **desk.of(lease))
    here.ask("lease.break", id=here.lease("/y").id, path="/y")
    here.lease("/z")
    for days in (0, 1, 40):
        here.clock.advance(days=days)
        here.ask("tend", system=True)
    here.ask("notify", system=True, revision="4", root="")
    functions = {"commit": "CommitFunction", "tend": "TendFunction", "notify": "NotifyFunction"}
    for kind, requests in asked.items():
        function = functions.get(kind, "ApiFunction")
        listing = "s3:ListBucket"
        refused = [(action, key) for action, key in requests if action != listing and not may(function, action, key)]
        assert refused == [], kind
        assert may(function, listing, "")
    assert asked.keys() >= {"lease", "submit", "commit", "tend", "notify"}


def may(function: str, action: str, key: str) -> bool:
    return any(action == one and fnmatch.fnmatchcase(key, pattern) for one, pattern in permitted()[function])


@pytest.mark.parametrize(
    ("function", "action", "key"),
    [
        ("ApiFunction", "s3:GetObject", LAYOUT.key("x")),
        ("ApiFunction", "s3:GetObject", f"{LAYOUT.private}issuers/x"),
        ("ApiFunction", "s3:PutObject", LAYOUT.seen("x/y")),
        ("ApiFunction", "s3:PutObject", LAYOUT.audit("2026-11/x")),
        ("ApiFunction", "s3:PutObject", LAYOUT.staged("x", "y")),
        ("ApiFunction", "s3:DeleteObject", LAYOUT.staged("x", "y")),
        ("ApiFunction", "s3:PutObject", f"{FQRN}/data/00/x"),
        ("SubmitFunction", "s3:PutObject", f"{FQRN}/data/00/x"),
        ("TendFunction", "s3:DeleteObject", LAYOUT.seen("x/y")),
        ("NotifyFunction", "s3:PutObject", LAYOUT.step("notify", "x")),
    ],
)
def test_what_happens_around_the_functions_is_permitted(function: str, action: str, key: str) -> None:
    assert may(function, action, key)


@pytest.mark.parametrize(
    ("function", "action", "key"),
    [
        ("ApiFunction", "s3:PutObject", f"{FQRN}/.cvmfspublished"),
        ("ApiFunction", "s3:PutObject", f"{FQRN}/.cvmfswhitelist"),
        ("ApiFunction", "s3:PutObject", f".stratus/{FQRN}/keys/x"),
        ("ApiFunction", "s3:PutObject", f".stratus/{FQRN}/issuers/x"),
        ("ApiFunction", "s3:PutObject", f".stratus/{FQRN}/receipts/x"),
        ("ApiFunction", "s3:PutObject", f".stratus/{FQRN}/settings.json"),
        ("ApiFunction", "s3:DeleteObject", f"{FQRN}/data/00/x"),
        ("ApiFunction", "s3:DeleteObject", f".stratus/{FQRN}/audit/x"),
        ("CommitFunction", "s3:GetObject", f".stratus/{FQRN}/keys/x"),
        ("CommitFunction", "s3:PutObject", f"{FQRN}/.cvmfswhitelist"),
        ("CommitFunction", "s3:PutObject", f".stratus/{FQRN}/keys/x"),
        ("CommitFunction", "s3:DeleteObject", f"{FQRN}/data/00/x"),
        ("TendFunction", "s3:PutObject", f"{FQRN}/data/00/x"),
        ("TendFunction", "s3:PutObject", f".stratus/{FQRN}/keys/x"),
        ("TendFunction", "s3:DeleteObject", f".stratus/{FQRN}/audit/x"),
        ("NotifyFunction", "s3:PutObject", f"{FQRN}/.cvmfspublished"),
        ("NotifyFunction", "s3:GetObject", f".stratus/{FQRN}/keys/x"),
    ],
)
def test_no_function_may_do_more(function: str, action: str, key: str) -> None:
    assert not may(function, action, key)


# -- what lives


def findings(stratus: Run, repository: str, url: str, code: int) -> dict[str, list[bool]]:
    line = ("deploy", "local", repository, "--check", "--url", url, "--wait", "20", "--json")
    found: dict[str, list[bool]] = {}
    for one in stratus(*line, code=code).jsons:
        found.setdefault(one["what"], []).append(one["good"])
    return found


def test_a_deployment_that_is_as_it_should_be(stratus: Run, repository: str, tmp_path: Path) -> None:
    with serving() as url:
        found = findings(stratus, repository, url, 0)
        assert [what for what, good in found.items() if not all(good)] == []
        assert found.keys() == {"store", "readers", "strangers", "caches", "api", "clocks", "whitelist", "functions"}
        said = stratus("deploy", "local", repository, "--check", "--url", url, "--wait", "20").lines
        assert "ok   strangers: a lease without a key is answered with 401" in said
    kept = {file.name for file in (tmp_path / "store" / ".stratus" / repository).rglob("*") if file.is_file()}
    assert not any(name.startswith("@!!") for name in kept)
    assert stratus("check", repository).code == 0


def test_a_deployment_without_functions_that_shows_what_is_private(
    stratus: Run, repository: str, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path / "www"), "0"]
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "cvmfs").symlink_to(tmp_path / "store")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        said = re.search(r"port ([0-9]+)", server.stdout.readline())
        assert said is not None
        try:
            found = findings(stratus, repository, f"http://127.0.0.1:{said[1]}", 1)
        finally:
            server.terminate()
    bad = {what for what, good in found.items() if not all(good)}
    assert bad == {"strangers", "caches", "api", "functions"}
    assert all(found["readers"])


def test_what_does_not_answer_is_one_line_for_each_look(stratus: Run, repository: str) -> None:
    found = findings(stratus, repository, "http://127.0.0.1:9", 1)
    assert all(found["store"])
    assert found["readers"] == found["api"] == [False]
    stratus("deploy", "local", repository, "--check", code=2)
