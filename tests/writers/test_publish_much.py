"""What does not fit into memory is published like anything else: here the memory is made very small."""

from __future__ import annotations

import random
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from stratus.formats.receipt import Receipt
from stratus.formats.records import Settings
from stratus.ingest import pipeline, tree
from stratus.ingest.sources import open_source
from stratus.stores.contract import Store
from stratus.stores.directory import DirectoryStore
from stratus.writers import gathered, known, recorded, remembered
from stratus.writers.direct import DirectWriter
from stratus.writers.publish import Options, publish
from tests.repositories import FQRN, content, keys, new_repository, problems, reader

SETTINGS = Settings(catalog_weight=60, chunk_minimum=1000, chunk_average=2000, chunk_maximum=4000)


def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (tree, "_HELD"),
        (gathered, "_HELD"),
        (recorded, "_HELD"),
        (recorded, "_HELD_NAMES"),
        (pipeline, "_HELD"),
        (remembered, "_HELD"),
        (known, "_HELD"),
    ):
        monkeypatch.setattr(module, name, 7)


def write_archive(file: Path, seed: int) -> None:
    """Directories out of order, names that come again, equal contents, large files, links near and far."""
    rng = random.Random(seed)
    names = [f"d{rng.randrange(6)}/e{rng.randrange(4)}/f{number}" for number in range(200)]
    with tarfile.open(file, "w") as archive:
        for number, name in enumerate([*names, *rng.choices(names, k=40)]):
            data = b"%d" % rng.randrange(150) * rng.choice([0, 1, 50, 3000])
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), rng.randrange(5)
            archive.addfile(member, BytesIO(data))
            if number % 9 == 0:
                link = tarfile.TarInfo(f"{name}.hard" if number % 2 else f"links/{number}")
                link.type, link.linkname = tarfile.LNKTYPE, rng.choice(names[: number + 1])
                if number % 2:
                    link.linkname = name
                archive.addfile(link)
        directory = tarfile.TarInfo("d1")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o711
        archive.addfile(directory)


def put(store: Store, file: Path, cache: Path, replace: bool) -> Receipt:
    writer = DirectWriter(store, FQRN, keys(), "tester", cache)
    return publish(writer, FQRN, b"/sw", [open_source(file)], "tester", Options(replace=replace, workers=0))


@pytest.mark.parametrize("seed", range(3))
def test_little_memory_gives_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{number}.tar" for number in range(2)]
    for number, file in enumerate(files):
        write_archive(file, 10 * seed + number)
    found = []
    for name in ("much", "little"):
        if name == "little":
            small_memory(monkeypatch)
        store = new_repository(DirectoryStore(tmp_path / name), SETTINGS)
        receipts = [put(store, files[step // 2], tmp_path / f"{name}-cache", replace=step > 2) for step in range(4)]
        assert receipts[1].entries.added == receipts[1].entries.changed == receipts[1].objects.new == 0
        assert problems(store, data=True) == []
        with reader(store).at() as revision:
            rows = {
                row.entry.path: (row.links, row.entry.mtime_ns if row.entry.content else None, row.entry.mode)
                for row in revision.tree.walk(b"/sw")
            }
        marked = {path for path in rows if path.endswith(b"catalog")}
        found.append(
            (
                {path: row for path, row in rows.items() if path not in marked},
                marked,
                content(store),
                [receipt.entries for receipt in receipts],
                [receipt.objects for receipt in receipts],
            )
        )
    assert found[0] == found[1]
