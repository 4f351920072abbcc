from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from stratus.errors import BadSource
from stratus.ingest.archives import Archive
from stratus.ingest.directories import Directory
from stratus.ingest.sources import open_source
from tests.ingest.reading import read


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def test_a_directory_is_a_source(tmp_path: Path) -> None:
    source = open_source(str(tmp_path))
    assert isinstance(source, Directory)
    assert source.name == str(tmp_path)


def test_anything_else_is_an_archive_whatever_its_name(tmp_path: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_bytes(_tar())
    source = open_source(file)
    assert isinstance(source, Archive)
    assert source.name == str(file)
    assert list(read(source).entries) == [b"/a"]


def test_a_dash_is_standard_input_which_cannot_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(_tar())
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = open_source("-")
        assert source.name == "standard input"
        assert list(read(source).entries) == [b"/a"]


def test_a_name_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="No such file") as caught:
        open_source(tmp_path / "nothing")
    assert caught.value.hint
    with pytest.raises(BadSource):
        open_source("nul\0byte")
