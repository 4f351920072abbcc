"""What a publish costs is said before: ten publishes of more than a thousand objects each, into a bucket."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from stratus.testing.s3_server import LocalS3
from tests.cli.conftest import Run
from tests.repositories import FQRN, keys
from tests.writers.bucket import serving_bucket

FILES = 1_010
pytestmark = pytest.mark.soak


def files(top: Path, seed: int, count: int = FILES) -> Path:
    """A directory of small files that are all different, ten to a directory."""
    source = random.Random(seed)
    for number in range(count):
        path = top / f"d{number // 10:03}" / f"f{number % 10}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.randrange(50, 400)))
    return top


def archive(directory: Path, suffix: str) -> Path:
    file = directory.with_suffix(suffix)
    subprocess.run(["tar", "-caf", file, "-C", directory, "."], check=True)
    return file


def test_ten_publishes_cost_what_was_said_before(
    stratus: Run, s3_server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"forecast-{token_hex(6)}"
    s3_server.create_bucket(bucket)
    keys().save(tmp_path / "keys")
    stratus("create", FQRN, f"s3://{bucket}", "--keys", tmp_path / "keys")

    changed = files(tmp_path / "changed", 1)
    files(changed, 20, FILES // 2)
    files(changed / "more", 21, FILES // 2 + 5)
    half_known = files(tmp_path / "half", 2)
    files(half_known / "new", 22)
    large = files(tmp_path / "large", 8)
    (large / "large").write_bytes(random.Random(80).randbytes(60_000_000))
    linked = files(tmp_path / "linked", 10)
    (linked / "d000" / "again").hardlink_to(linked / "d000" / "f0")
    (linked / "link").symlink_to("d000")
    publishes: list[tuple[str, list[str | Path]]] = [
        ("/a", [files(tmp_path / "a", 1)]),
        ("/deep/er/than/that", [files(tmp_path / "b", 2)]),
        ("/nested", [files(tmp_path / "c", 3), "--catalog", "--tag", "v1"]),
        ("/a", [changed, "--replace"]),
        ("/tar", [archive(files(tmp_path / "d", 4), ".tar")]),
        ("/gz", [archive(files(tmp_path / "e", 5), ".tar.gz"), "--owner", "1000:1000"]),
        ("/half", [half_known]),
        ("/large", [large]),
        ("/two", [files(tmp_path / "f", 6, 510), files(tmp_path / "g", 7, 510), "--message", "both"]),
        ("", [linked]),
    ]
    assert len(publishes) == 10
    for path, words in publishes:
        said = stratus("publish", "--dry-run", "--json", f"{FQRN}:{path or '/'}", *words).json
        done = stratus("publish", "--json", "--quiet", f"{FQRN}:{path or '/'}", *words).json
        assert done["objects"]["new"] > 1000, path
        for name in ("requests", "entries", "objects", "bytes"):
            assert said[name] == done[name], (path, name)
        assert money(said) == pytest.approx(money(done), rel=0.05), path


def test_so_does_one_through_the_api_by_a_stranger_with_a_key(s3_server: LocalS3, tmp_path: Path) -> None:
    with serving_bucket(s3_server, tmp_path) as bucket:
        for name, seed in (("/one", 1), ("/two", 2)):
            source = files(tmp_path / name[1:], seed)
            said = json.loads(bucket.stratus("publish", "--dry-run", "--json", f"{FQRN}:{name}", source).stdout)
            done = json.loads(bucket.stratus("publish", "--json", f"{FQRN}:{name}", source).stdout)
            assert done["objects"]["new"] > 1000
            for what in ("entries", "objects", "bytes"):
                assert said[what] == done[what]
            assert said["requests"]["put"] == done["requests"]["put"]
            assert money(said) == pytest.approx(money(done), rel=0.05)


def money(of: Any) -> float:
    return float(of["cost"]["amount"])
